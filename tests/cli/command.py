"""The command line in this process."""

from typer.testing import CliRunner

from instructedit.cli.main import app


def call(*words: object) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command; an error of the program is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(result: tuple[int, str, str]) -> str:
    """Return the one sentence on standard error."""
    code, out, err = result
    assert code == 2
    assert not out
    assert "Traceback" not in err
    sentences = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(sentences) == 1
    assert sentences[0].startswith("instructedit: ")
    return sentences[0]
