"""Texts that are, or almost are, numbers, timestamps and times, for property tests of casts."""

from hypothesis import strategies as st

from tests.unit.ingestion.exact_oracle import INTEGERS

NUMBERS = [*INTEGERS, "decimal(18,2)", "decimal(38,0)", "decimal(38,10)", "decimal(4,4)", "double", "float"]
MOMENTS = ["timestamp", "timestamptz", "timestamp_s", "timestamp_ms", "timestamp_ns", "date"]

_digits = st.text("0123456789", max_size=6) | st.sampled_from(
    [str(n) for k in (7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 100) for n in (2**k - 1, 2**k, 2**k + 1)]
    + ["0" * 20 + "1", "9" * 20, "12345678901234567", "5", "25"]
)
_exponents = st.sampled_from(
    ["", "", "", "e0", "e1", "E+3", "e-1", "e-2", "e-19", "e22", "e38", "e-400", "e400"]
)
numbers = st.builds(
    lambda sign, whole, point, part, exponent: sign + whole + point + part + exponent,
    st.sampled_from(["", "", "-", "+", "+-", " "]), _digits, st.sampled_from(["", "."]), _digits, _exponents,
) | st.sampled_from(["nan", "inf", "-Infinity", "0x10", "1_000", "1,5", "", " - ", "-0", "0.1", "16777217", "x"])  # fmt: skip

_fractions = st.sampled_from(
    ["", ".5", ".123", ".123456", ".1234567", ".123456789", ".1234560000", ".0000000001"]
)
_offsets = st.sampled_from(
    [
        "",
        "",
        "",
        "Z",
        "+00",
        "+02",
        "-05:30",
        "+15:59",
        "+16",
        "+99",
        "-07:88",
        "+0530",
        " EST",
        " BST",
        " CET",
        " UTC",
        " America/New_York",
        " NZ",
    ]
)
moments = st.builds(
    lambda day, between, clock, fraction, offset: day + (between + clock + fraction + offset if between else ""),
    st.sampled_from(
        ["2024-03-10", "2024-11-03", "2024-03-31", "2024-10-27", "2024-04-07", "2024-10-06", "2024-07-01",
         "2024-02-30", "0001-02-01", "9999-12-30", "1969-12-31", "2262-04-12",
         "24-01-31", "01/02/24", "  24-01-31", "-024-01-01", " 2024-01-01"]
    ),
    st.sampled_from(["", " ", "T", "t"]),
    st.sampled_from(["00:00", "01:30:00", "02:00:00", "02:15:00", "02:30:00", "12:00:00", "24:00:00", "25:00:00"]),
    _fractions, _offsets,
)  # fmt: skip
clocks = st.builds(
    lambda clock, fraction, offset: clock + fraction + offset,
    st.sampled_from(["00:00", "23:59:59", "12:00:00", "25:00:00", "12:60:00"]), _fractions, _offsets,
)  # fmt: skip
