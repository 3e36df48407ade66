"""A table as text, Markdown and LaTeX."""

from labelsmooth.tables import Table

TABLE = Table(
    head=("arm", "ECE (%)"),
    rows=[("hard_1", "3.1 ± 0.2"), ("ε = 0.1", "12.4"), ("a|b", "−1")],
    strong={1},
    sections={0: "first", 2: "second & last"},
    section="study",
)


def test_text_is_aligned():
    assert TABLE.text().splitlines() == [
        "arm        ECE (%)",
        "hard_1   3.1 ± 0.2",
        "ε = 0.1       12.4",
        "a|b             −1",
    ]


def test_markdown_has_a_column_of_sections_and_escapes():
    assert TABLE.markdown().splitlines() == [
        "| study | arm | ECE (%) |",
        "| --- | --- | ---: |",
        r"| first | hard\_1 | 3.1 ± 0.2 |",
        "| first | **ε = 0.1** | **12.4** |",
        r"| second &amp; last | a\|b | −1 |",
    ]


def test_latex_is_of_ascii_with_sections_between_rules():
    text = TABLE.latex()
    assert text.isascii()
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"arm & ECE (\%) \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\textit{first}} \\",
        r"hard\_1 & 3.1 $\pm$ 0.2 \\",
        r"\textbf{$\varepsilon$ = 0.1} & \textbf{12.4} \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\textit{second \& last}} \\",
        r"a\textbar{}b & $-$1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_table_without_sections_has_no_column_for_them():
    plain = Table(head=("", "unit", "value"), rows=[("loss", "nats", "1")], words=2)
    assert plain.markdown().splitlines()[1] == "| --- | --- | ---: |"
    assert plain.latex().count(r"\midrule") == 1


def test_long_titles_of_numbers_take_several_lines_of_text():
    table = Table(
        head=("the name of an arm", "teacher-forced token accuracy (%)", "a_name_of_many_letters", "NLL"),
        rows=[("hard", "7.5", "1.25 ± 0.25", "4.9")],
    )
    assert table.text().splitlines() == [
        f"{'':18}  teacher-forced",
        f"{'':18}  token accuracy",
        f"the name of an arm  {'(%)':>14}  a_name_of_many_letters  NLL",
        f"{'hard':18}  {'7.5':>14}  {'1.25 ± 0.25':>22}  4.9",
    ]
