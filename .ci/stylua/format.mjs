// Format the Lua files of folders with StyLua and stylua.toml: node format.mjs [--check] TOML FOLDER…
// With --check it writes nothing, names the files that would change, and exits with 1 if there are any.
import fs from 'node:fs'
import path from 'node:path'
import * as stylua from '@johnnymorganz/stylua'

const ENUMS = {
  syntax: stylua.LuaVersion,
  indent_type: stylua.IndentType,
  quote_style: stylua.QuoteStyle,
  collapse_simple_statement: stylua.CollapseSimpleStatement,
}

const isCheck = process.argv[2] === '--check'
const [toml, ...folders] = process.argv.slice(isCheck ? 3 : 2)
const settings = fs.readFileSync(toml, 'utf8').trim().split('\n').map((line) => line.split(' = '))

function makeConfig() { // formatCode takes its memory: one for each file
  const config = stylua.Config.new()
  for (const [name, value] of settings) config[name] = ENUMS[name] ? ENUMS[name][JSON.parse(value)] : Number(value)
  return config
}

for (const folder of folders) {
  for (const name of fs.readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.lua')).sort()) {
    const file = path.join(folder, name)
    const text = fs.readFileSync(file, 'utf8')
    const formatted = stylua.formatCode(text, makeConfig(), undefined, stylua.OutputVerification.Full)
    if (formatted === text) continue
    console.log(`${isCheck ? 'would reformat' : 'reformatted'}: ${file}`)
    if (isCheck) process.exitCode = 1
    else fs.writeFileSync(file, formatted)
  }
}
