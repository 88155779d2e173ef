"""The project's measurements: ``python -m benchmarks NAME [--json] [--picture PATH]``.

A benchmark is a module with the name of its command and two functions:

``measure(...)``
    Measures and returns a result. Its parameters are the command's options. A result is data that
    JSON can hold, a dataclass of such data, or an object whose ``as_json()`` returns such data.
    A generator yields several results, and each is printed as soon as it is there. The command
    ends with exit code 1 when a result has an attribute ``failed`` that is true.
``show(result)``
    Prints the result for people.

A function of the same name in :mod:`benchmarks.pictures` draws the result. To add a benchmark,
write the module and add it to ``BENCHMARKS`` in ``benchmarks/__main__.py``.
"""
