"""What can go wrong while a report is made.

Exception
└── ReportFault   a bug of ours: the object is kept and shown, never sent
"""


class ReportFault(Exception):
    """An object that failed the check before the wire; `faults` says what is wrong with it, free of PHI."""

    def __init__(self, kind: str, faults: tuple[str, ...]) -> None:
        super().__init__(f"the {kind} failed the check before the wire: {'; '.join(faults)}")
        self.kind = kind
        self.faults = faults
