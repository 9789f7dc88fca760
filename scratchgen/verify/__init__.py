"""`scratchgen verify`: the ledger of equations, the tests that verify them, and the page that says so."""
