"""`quotes fees`: check a fee schedule, explain a price, compare two schedules."""

import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dfsp_quotes import Operation
from dfsp_quotes.cli.failures import BadInputError, project_packages
from dfsp_quotes.cli.options import AsJson
from dfsp_quotes.cli.output import facts, printable, show

if TYPE_CHECKING:
    from dfsp_quotes.cli.project.fee_schedules import Price, Rule, RuleChange, Step

_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")

File = Annotated[Path, typer.Argument(metavar="FILE", help="TOML file of fees.", show_default=False)]

_group = typer.Typer(no_args_is_help=True, help="Check, explain and compare fee schedules.")


class Direction(StrEnum):
    """The two ways to request a quote."""

    SOURCE = "source"
    DESTINATION = "destination"


def add_to(app: typer.Typer) -> None:
    app.add_typer(_group, name="fees")


@_group.command("check", epilog="Example: quotes fees check fees.toml")
def check(file: File, as_json: AsJson = False) -> None:
    """Check that the payee accepts a fee schedule, and show the bounds of each rule."""
    with project_packages():
        # the client alone has no such packages
        from dfsp_quotes.cli.project import fee_schedules
    rules = fee_schedules.rules(fee_schedules.read(file))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("rule", "arrives from", "to", "sent from", "to", "fee from", "to", "steps"):
        table.add_column(title, justify="left" if title == "rule" else "right")
    for rule in rules:
        bounds = rule.min_destination, rule.max_destination, rule.min_source, rule.max_source, rule.least
        most = "-" if rule.most is None else str(rule.most)
        table.add_row(_name(rule), *map(str, bounds), most, str(len(rule.steps)))
    heading = Text.assemble(("valid", "green"), f": rules: {len(rules)}")
    content = {"isValid": True, "rules": [_rule(each) for each in rules]}
    show(content, Group(heading, table), as_json=as_json)


@_group.command("explain", epilog="Example: quotes fees explain fees.toml source 12.50 USD")
def explain(
    file: File,
    direction: Annotated[
        Direction,
        typer.Argument(
            show_default=False,
            help="source: AMOUNT shall arrive; destination: AMOUNT is sent, fee included.",
        ),
    ],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="Amount such as 12.50.", show_default=False)
    ],
    currency: Annotated[
        str, typer.Argument(metavar="CURRENCY", help="Code of ISO 4217 such as USD.", show_default=False)
    ],
    transfer_type: Annotated[
        str, typer.Option("--transfer-type", metavar="TYPE", help="Type of the transfer.")
    ] = "p2p",
    as_json: AsJson = False,
) -> None:
    """Show the price of an amount, with the rule and the step that decide it."""
    if not _AMOUNT.match(amount):
        raise BadInputError("AMOUNT must be a plain decimal number such as 12.50.")
    with project_packages():
        from dfsp_quotes.cli.project import fee_schedules
    is_source = direction is Direction.SOURCE
    operation = Operation.QUOTE_SOURCE_AMOUNT if is_source else Operation.QUOTE_DESTINATION_AMOUNT
    price = fee_schedules.explain(fee_schedules.read(file), operation, transfer_type, currency, amount)
    content = {
        "operation": operation.value,
        "sourceAmount": str(price.source_amount),
        "destinationAmount": str(price.destination_amount),
        "fee": str(price.fee),
        "rule": {"transferType": transfer_type, "currencyCode": currency},
        "step": _step(price.step),
        "least": str(price.rule.least),
        "most": _optional(price.rule.most),
        "rounding": price.rule.rounding,
        "unrounded": price.unrounded,
        "limitedBy": price.limited_by,
    }
    show(content, _price_view(price), as_json=as_json)


@_group.command("diff", epilog="Example: quotes fees diff fees.toml new-fees.toml")
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="TOML file of fees.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="TOML file of fees.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what a new fee schedule changes: rules, bounds, and the fees of some amounts."""
    with project_packages():
        from dfsp_quotes.cli.project import fee_schedules
    changes = list(fee_schedules.diff(fee_schedules.read(old), fee_schedules.read(new)))
    view = Group(*(_change_view(each) for each in changes)) if changes else Text("no change", "dim")
    show({"isChanged": bool(changes), "rules": [_change(each) for each in changes]}, view, as_json=as_json)


def _name(rule: "Rule") -> str:
    return printable(f"{rule.transfer_type} {rule.currency}")


def _rule(rule: "Rule") -> dict[str, object]:
    return {
        "transferType": rule.transfer_type,
        "currencyCode": rule.currency,
        "minDestinationAmount": str(rule.min_destination),
        "maxDestinationAmount": str(rule.max_destination),
        "minSourceAmount": str(rule.min_source),
        "maxSourceAmount": str(rule.max_source),
        "least": str(rule.least),
        "most": _optional(rule.most),
        "rounding": rule.rounding,
        "steps": [_step(step) for step in rule.steps],
    }


def _step(step: "Step") -> dict[str, str]:
    return {
        "from": str(step.first),
        "to": str(step.last),
        "flat": str(step.flat),
        "percent": _percent(step),
    }


def _percent(step: "Step") -> str:
    return format(step.percent, "f")


def _optional(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _price_view(price: "Price") -> RenderableType:
    rule, step = price.rule, price.step
    limit = {
        None: "",
        "least": f", raised to the least fee {rule.least}",
        "most": f", cut to the most {rule.most}",
    }
    return facts(
        [
            ("send", Text(f"{price.source_amount} {rule.currency}", "bold")),
            ("arrives", f"{price.destination_amount} {rule.currency}"),
            ("fee", f"{price.fee} {rule.currency}"),
            ("rule", _name(rule)),
            (
                "step",
                f"{step.first} to {step.last}: {step.flat} plus {_percent(step)} %{limit[price.limited_by]}",
            ),
            ("rounding", f"{price.unrounded} is rounded {rule.rounding.replace('_', ' ')}"),
        ]
    )


def _change(change: "RuleChange") -> dict[str, object]:
    rule = change.new or change.old
    return {
        "transferType": rule.transfer_type if rule else None,
        "currencyCode": rule.currency if rule else None,
        "old": None if change.old is None else _rule(change.old),
        "new": None if change.new is None else _rule(change.new),
        "fees": [
            {"amount": str(each.amount), "oldFee": str(each.old_fee), "newFee": str(each.new_fee)}
            for each in change.fees
        ],
    }


def _change_view(change: "RuleChange") -> RenderableType:
    if change.old is None or change.new is None:
        rule, word, style = (
            (change.new, "added", "green") if change.old is None else (change.old, "removed", "red")
        )
        return Text.assemble(("" if rule is None else _name(rule), "bold"), " ", (word, style))
    old, new = _settings(change.old), _settings(change.new)
    lines = [Text.assemble((_name(change.new), "bold"), " ", ("changed", "yellow"))]
    lines += [Text(f"  {name}: {old[name]} -> {new[name]}") for name in old if old[name] != new[name]]
    if not change.fees:
        return Group(*lines)
    table = Table(box=None, header_style="dim")
    for title in ("  arrives", "old fee", "new fee", "difference"):
        table.add_column(title, justify="right")
    for each in change.fees:
        more = each.new_fee - each.old_fee
        amounts = (str(amount) for amount in (each.amount, each.old_fee, each.new_fee))
        table.add_row(*amounts, Text(f"{more:+f}", "red" if more > 0 else "green"))
    return Group(*lines, table)


def _settings(rule: "Rule") -> dict[str, str]:
    steps = (f"{step.first} to {step.last}: {step.flat} plus {_percent(step)} %" for step in rule.steps)
    return {
        "least fee": str(rule.least),
        "most": "none" if rule.most is None else str(rule.most),
        "rounding": rule.rounding.replace("_", " "),
        "steps": "; ".join(steps),
    }
