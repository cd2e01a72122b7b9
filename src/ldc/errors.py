"""The errors a user can meet. Each message is shown as it stands: what is wrong, where, and what to do."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says. Frozen by a test."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    FAILED_RUNS = 3
    ENVIRONMENT = 4
    INTERRUPTED = 130


class LdcError(Exception):
    """Base of every error whose message is written for the user, without a traceback."""

    exit_code = ExitCode.UNEXPECTED


class StudyError(LdcError):
    """The study file, or what it asks for, is wrong: the user edits it and goes on."""

    exit_code = ExitCode.USAGE


class DataError(StudyError):
    """A domain's text is missing, unreadable, too short, or in two splits."""


class ModelError(StudyError):
    """A model folder is incomplete, or its structure is not one whose layers can be mapped."""


class StoreError(StudyError):
    """An output folder belongs to another study, or cannot be read."""


class EnvironmentFault(LdcError):
    """The machine lacks something: access, a package, a device, memory, a writable folder."""

    exit_code = ExitCode.ENVIRONMENT
