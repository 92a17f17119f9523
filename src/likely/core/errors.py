"""Exceptions, and a warning. Each message says what is wrong, where, and what to do."""


class LikelyError(Exception):
    """Base of every error that `likely` raises on purpose."""


class DataError(LikelyError):
    """The data cannot be read, or lie outside their domain."""


class DomainError(LikelyError):
    """A domain is malformed, or a model does not take it."""


class DensityError(LikelyError):
    """The density that was asked for does not exist for this model on this domain."""


class AbilityError(LikelyError, AttributeError):
    """This model cannot do what was asked of it; others can."""


class RunError(LikelyError):
    """What was asked for is right, and the run has failed: a killed process, no space, no memory."""


class DivergenceError(RunError):
    """Training has diverged."""


class ArtifactError(LikelyError):
    """A file that `likely` wrote is missing, damaged, of another kind or of another configuration."""


class SpaceError(ArtifactError, RunError):
    """The disk is full."""


class Stop(Exception):
    """Raised by `on_validation` of a fit to end it as if its budget were spent; the message says why."""


class EstimateWarning(UserWarning):
    """The standard error of an estimate is too small."""
