"""`sandbox task validate`: every mistake of a manifest, without a server."""

from __future__ import annotations

from typing import Any, BinaryIO

import click

from api.commands.manifest_file import ManifestFile
from api.commands.options import format_option
from api.commands.render import Output
from orchestrator.manifest import DocumentTooLarge, InvalidManifest, ManifestPolicy, parse

EXIT_INVALID = 2


@click.command()
@click.argument("file", type=click.File("rb"))
@format_option
@click.pass_context
def validate(ctx: click.Context, file: BinaryIO, form: str | None) -> None:
    """Check the manifest FILE (- for standard input) and name every mistake with line and column.

    What only a server's operator knows – profiles, images, directories for file:// – is not judged. The exit
    code of a manifest with mistakes is 2.
    """
    output = Output.chosen(form, listing=False)
    manifest = ManifestFile.read_from(file)
    errors = mistakes(manifest)
    if output.is_json:
        output.json({"valid": not errors, "errors": errors})
    elif not errors:
        output.line(f"{manifest.name}: valid")
    elif output.form == "table":
        columns = ("line", "column", "field", "message")
        output.rows(columns, [[one.get(column) for column in columns] for one in errors])
    else:
        for line in manifest.error_lines(errors):
            output.line(line)
    ctx.exit(EXIT_INVALID if errors else 0)


def mistakes(manifest: ManifestFile) -> list[dict[str, Any]]:
    """Return every mistake in the form the server uses (contract §1); none for a valid manifest."""
    try:
        parse(manifest.body, manifest.content_type, policy=ManifestPolicy.offline())
    except InvalidManifest as error:
        return [one.to_dict() for one in error.errors]
    except DocumentTooLarge as error:
        return [{"field": "", "pointer": "", "validation": "too_large", "message": str(error)}]
    return []
