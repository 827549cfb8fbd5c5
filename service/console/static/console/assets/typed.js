// Amounts as people type them.

import { Problem } from "./api.js";

const WHOLE = /^(?:\d+|\d{1,3}([.,' ])\d{3}(?:\1\d{3})*)$/; // its thousands apart, or not

// In the API's form: 1.234,50 and 1 234.50 are 1234.50. A percentage has no thousands. Throws a Problem for the control where
// a separator may be either: `1.000`, `1,000`. What is no number stays as it is: the API says so.
export function typedAmount({ name, value }, isPercentage = false) {
  const typed = value.trim().replace(/\s/g, " ").replaceAll("’", "'");
  const at = Math.max(typed.lastIndexOf("."), typed.lastIndexOf(","));
  const isDecimal = at >= 0 && typed.indexOf(typed[at]) === at;
  const [whole, fraction] = isDecimal ? [typed.slice(0, at), typed.slice(at + 1)] : [typed, null];
  if (!WHOLE.test(whole) || (isDecimal && !/^\d+$/.test(fraction))) return typed;
  const digits = whole.replace(/\D/g, "");
  if (!isPercentage && fraction?.length === 3 && /^[1-9]\d{0,2}$/.test(whole)) {
    const decimal = fraction.endsWith("0") ? fraction.slice(0, -1) : `${fraction}0`;
    throw new Problem(422, { code: "invalid", detail: "An amount can be read in two ways.", errors: [
      { field: name, reason: `can be read in two ways: write ${digits}${fraction}, or ${digits}.${decimal}` }] });
  }
  return isDecimal ? `${digits}.${fraction}` : digits;
}
