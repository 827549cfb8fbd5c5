"""All mutants, by what they change."""

from tests.mutants import (
    assigning,
    gifts,
    identity,
    judging,
    keeping,
    limiting,
    locking,
    mending,
    money,
    reconciling,
    redeeming,
    requests,
    settings,
)

MUTANTS = (
    *judging.MUTANTS,
    *locking.MUTANTS,
    *limiting.MUTANTS,
    *redeeming.MUTANTS,
    *assigning.MUTANTS,
    *gifts.MUTANTS,
    *keeping.MUTANTS,
    *money.MUTANTS,
    *requests.MUTANTS,
    *settings.MUTANTS,
    *identity.MUTANTS,
    *reconciling.MUTANTS,
    *mending.MUTANTS,
)
