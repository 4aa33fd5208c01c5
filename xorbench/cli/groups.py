"""Groups of commands: unknown and missing names are errors of one line."""

from collections.abc import Iterator, Sequence
from typing import Any

import click


class UnknownCommand(click.UsageError):
    """A name that no command of the group has."""

    def __init__(self, name: str, ctx: click.Context, possibilities: Sequence[str]) -> None:
        super().__init__(f"no command {name!r}", ctx)
        self.name = name
        self.possibilities = possibilities


class CommandGroup(click.Group):
    """A group that requires the name of one of its commands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.no_args_is_help = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raises `click.UsageError` without arguments."""
        if not args and not ctx.resilient_parsing:
            raise click.UsageError("no command given", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the first word; raises `UnknownCommand`."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            raise UnknownCommand(args[0], ctx, names)
        return super().resolve_command(ctx, args)


def walk(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and all commands below it, each with its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from walk(subcommand, *path, name)


class CommandWithSubcommands(CommandGroup):
    """A command with its own arguments; a first word that names a subcommand selects it."""

    allow_interspersed_args = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, invoke_without_command=True, **options)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Make the context of the subcommand, or of this command."""
        if args and (subcommand := self.commands.get(args[0])):
            # without the arguments of this command, which the usage would show
            own = click.Context(CommandGroup(self.name), info_name=info_name, parent=parent)
            return subcommand.make_context(args[0], args[1:], parent=own, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of this command."""
        return click.Command.parse_args(self, ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the usage of this command, without subcommands."""
        return click.Command.collect_usage_pieces(self, ctx)
