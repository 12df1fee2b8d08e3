"""The notary: a process of its own that signs what every ledger held, and watches that it still holds it.

`state` is the file of what was signed last, `rounds` signs what grew, `sweeping` recomputes everything all the time,
`alarms` is what they found, `running` the loop around them.
Nothing that serves imports this (spec LEDGER, "The notary").
"""
