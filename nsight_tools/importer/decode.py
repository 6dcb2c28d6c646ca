"""From an export's raw columns to the dataset's: strings resolved, enumerations as words, global ids split."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.errors import InputError
from nsight_tools.importer import dialects
from nsight_tools.importer.dialects import From, How, Source, Told
from nsight_tools.importer.exports.reading import EXPORT_AGAIN, INT, STRING, Export, Raw, raw, read
from nsight_tools.tables import WORD, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Ints = npt.NDArray[np.int64]

_TEXT = {How.TEXT}
_API_SUFFIX = re.compile(r"(_(v\d+|ptsz|ptds))+$")
_HOME = r"(^|[^\w./-])(?:/home|/Users|[A-Za-z]:\\Users)[/\\][^/\\\s:\"']+"
_HOME_ANYWHERE = r"(?:/[\w./-]*)?/(?:home|Users)/[^/\s:\"']+|[A-Za-z]:\\Users\\[^\\\s:\"']+|/root\b"
"""Also in the middle of a path, as network homes are: for texts that hold no names of layers."""
UNRESOLVED = "[name missing from the export]"


class Decoder:
    """Decodes the chunks of one export.

    Holds the export's strings (all of StringIds, once), enumerations and NVTX domains; nothing else grows with it.
    """

    def __init__(self, export: Export) -> None:
        self._export = export
        self.sync_kinds: Callable[[Ints, Ints, Ints], pa.Array] | None = None
        self.record_times: Callable[[Ints, Ints], pa.Array] | None = None
        self._enums: dict[str, dict[str, int]] = {}

    def raw(self, source: Source) -> dict[str, Raw]:
        """The raw columns that `source` reads. Raises InputError where one that every version writes is absent."""
        there = self._export.tables[source.table]
        wanted: dict[str, Raw] = {}
        for name, column in source.columns.items():
            if not isinstance(column, From):
                continue
            if column.required and not any(name in there for name in column.names):
                raise InputError(
                    self._export.path,
                    f"table {source.table} has no column {column.names[0]}, which every Nsight Systems version writes",
                    hint=EXPORT_AGAIN,
                )
            wanted[name] = Raw(column.names, STRING if column.how in _TEXT else INT)
            if column.inline:
                wanted[f"{name}, inline"] = Raw((column.inline,), STRING)
        return wanted

    def decode(self, source: Source, table: Table, raw: pa.Table) -> pa.Table:
        """`raw` as rows of `table`; columns that `source` has beside `table`'s stand at the end."""
        decoded: dict[str, pa.ChunkedArray | pa.Array] = {}
        if source.only:
            kept = source.columns[source.only]
            assert isinstance(kept, From)
            value = self._column(kept, raw, source.only)
            if value.null_count:
                raw, value = raw.filter(value.is_valid()), value.drop_null()
            decoded[source.only] = value
        columns: dict[str, pa.ChunkedArray | pa.Array] = {}
        for field in table.schema:
            how = source.columns.get(field.name)
            if field.name in decoded:
                value = decoded[field.name]
            elif how is None:
                value = pa.nulls(raw.num_rows, field.type)
            elif isinstance(how, From):
                value = self._column(how, raw, field.name)
            else:
                value = _made(how, columns, raw.num_rows)
            if value.null_count and not field.nullable:
                value = _filled(value, field.type)
            try:
                columns[field.name] = value.cast(field.type)
            except pa.ArrowInvalid as error:
                raise InputError(
                    self._export.path,
                    f"table {source.table} holds a {field.name} that cannot be: {error}",
                    hint=EXPORT_AGAIN,
                ) from error
        for name in source.columns.keys() - columns.keys():
            extra = source.columns[name]
            assert isinstance(extra, From)
            columns[name] = self._column(extra, raw, name)
        return pa.table(columns)

    def _column(  # noqa: C901, PLR0911 (one case for each How)
        self, how: From, raw: pa.Table, name: str
    ) -> pa.ChunkedArray | pa.Array:
        values = raw.column(name).combine_chunks() if raw.num_rows else pa.nulls(0, raw.schema.field(name).type)
        match how.how:
            case How.INTEGER:
                return values
            case How.ID:
                return pa.array(_numpy(values).astype(np.int32), mask=_nulls(values))
            case How.GPU:
                return pa.array(self._gpus(values, raw).astype(np.int32), mask=_nulls(values))
            case How.PID:
                return pc.bit_wise_and(pc.shift_right(values, 24), 0xFFFFFF)
            case How.TID:
                return pc.bit_wise_and(values, 0xFFFFFF)
            case How.TEXT:
                return pc.replace_substring_regex(values, _HOME_ANYWHERE, "~")
            case How.RANGE_END:
                name, number = dialects.NVTX_MARK
                mark = pc.equal(raw.column("kind"), self.enumeration(dialects.NVTX_KINDS).get(name, number))
                return pc.if_else(mark, raw.column("start_ns"), values)
            case How.WORD:
                return self._words(values, how)
            case How.STRING | How.API_NAME | How.API_KIND:
                inline = raw.column(f"{name}, inline").combine_chunks() if how.inline and raw.num_rows else None
                return self._strings_of(values, inline, how.how)
            case How.DOMAIN:
                return self._domain(values, raw)
            case How.SYNC:
                assert self.sync_kinds is not None
                return self.sync_kinds(_pids(raw), _numpy(raw.column("correlation_id")), _numpy(values))
            case How.CALL_START:
                assert self.record_times is not None
                return self.record_times(_pids(raw), _numpy(values))

    def _strings_of(self, ids: pa.Array, inline: pa.Array | None, how: How) -> pa.Array:
        texts = _mapped(ids, lambda unique: _HOW_NAMED[how](self.strings(unique)))
        if inline is None or inline.null_count == len(inline):
            return texts
        return pc.coalesce(texts.cast(STRING), _without_homes(inline)).dictionary_encode()

    def _words(self, values: pa.Array, how: From) -> pa.Array:
        numbers = self.enumeration(how.enum)
        word_of = {number: word for word, (_, fallback) in how.words.items() for number in fallback}
        word_of.update({numbers[name]: word for word, (name, _) in how.words.items() if name in numbers})
        other = "unknown" if "unknown" in how.words else None
        return _mapped(values, lambda unique: pa.array([word_of.get(n, other) for n in unique.tolist()], STRING))

    def enumeration(self, table: str) -> Mapping[str, int]:
        """Names and values of the export's ENUM table; empty where it has none."""
        if table not in self._enums:
            rows = read(self._export, dialects.enumeration(table))
            self._enums[table] = dict(zip(rows["name"].to_pylist(), rows["id"].to_pylist(), strict=True))
        return self._enums[table]

    def _gpus(self, values: pa.Array, raw: pa.Table) -> Ints:
        numbers = _numpy(values)
        if self._gpu_numbers and "pid" in raw.column_names:
            pids = (_numpy(raw.column("pid")) >> 24) & 0xFFFFFF
            for (pid, ordinal), number in self._gpu_numbers.items():
                numbers = np.where((pids == pid) & (_numpy(values) == ordinal), number, numbers)
        return numbers

    @cached_property
    def _gpu_numbers(self) -> dict[tuple[int, int], int]:
        """(pid, CUDA device) -> GPU, where they differ, as under CUDA_VISIBLE_DEVICES."""
        return {
            (row["pid"], row["ordinal"]): row["gpu"]
            for row in read(self._export, dialects.CUDA_DEVICES).to_pylist()
            if row["gpu"] is not None and row["gpu"] != row["ordinal"]
        }

    def _domain(self, values: pa.Array, raw: pa.Table) -> pa.Array:
        pids = pc.fill_null(pc.bit_wise_and(pc.shift_right(raw.column("pid"), 24), 0xFFFFFF), 0)
        keys = pc.add(pc.shift_left(pids, 32), pc.fill_null(values, 0))
        keys = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
        return _mapped(
            keys,
            lambda unique: pa.array([self.domain_names.get(key, _domain_name(key)) for key in unique.tolist()], STRING),
        )

    @cached_property
    def domain_names(self) -> dict[int, str]:
        """(pid << 32 | domain id) -> name, from the events that created the domains."""
        name, number = dialects.NVTX_DOMAIN_CREATE
        number = self.enumeration(dialects.NVTX_KINDS).get(name, number)
        listing = dialects.NVTX_DOMAINS
        names: dict[int, str] = {}
        created = self._export.rows_with(listing.table, raw(listing), dialects.NVTX_EVENT_KIND, number)
        for row in created.to_pylist():
            text = row["text"] if row["text"] is not None else self.strings(np.array([row["text_id"] or 0]))[0].as_py()
            names[((row["thread"] or 0) >> 24 & 0xFFFFFF) << 32 | (row["domain"] or 0)] = text
        return names

    def strings(self, ids: Ints) -> pa.Array:
        """The strings of `ids`, home folders left out; UNRESOLVED where StringIds lacks one."""
        known, text = self._string_table
        at = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
        is_known = known[at] == ids if len(known) else np.zeros(len(ids), bool)
        if not len(known):
            return pa.array([UNRESOLVED] * len(ids), STRING)
        return pc.if_else(pa.array(is_known), pc.fill_null(text.take(pa.array(at)), ""), UNRESOLVED)

    @cached_property
    def _string_table(self) -> tuple[Ints, pa.Array]:
        listing = dialects.STRINGS
        if listing.table not in self._export.tables:
            raise InputError(
                self._export.path, f"has no table {listing.table}, so that no name can be resolved", hint=EXPORT_AGAIN
            )
        rows = read(self._export, listing)
        ids = _numpy(rows["id"])
        text = _without_homes(rows["value"].combine_chunks())
        if np.any(np.diff(ids) <= 0):
            order = np.argsort(ids, kind="stable")
            ids, text = ids[order], text.take(pa.array(order))
        return ids, text


def _pids(raw: pa.Table) -> Ints:
    """The process of each row, by its global id."""
    return _numpy(pc.bit_wise_and(pc.shift_right(raw.column("pid"), 24), 0xFFFFFF))


def _made(how: Told | str, columns: Mapping[str, pa.ChunkedArray | pa.Array], rows: int) -> pa.Array:
    """A column that the export does not have: a constant, or what the words of another one tell."""
    if isinstance(how, Told):
        return _told(columns[how.column], how.by)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([how]))


def _told(column: pa.Array | pa.ChunkedArray, by: Callable[[str], str | bool]) -> pa.Array:
    """What each word of a column of words tells; asked once for each word."""
    words = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(words):
        return pa.nulls(0)
    told = pa.array([by(word) for word in words.dictionary.to_pylist()])
    if pa.types.is_boolean(told.type):
        return told.take(words.indices)
    told = told.dictionary_encode()
    return pa.DictionaryArray.from_arrays(told.indices.take(words.indices), told.dictionary)


def _without_homes(text: pa.Array) -> pa.Array:
    """Texts in which `~` stands for a home folder; a path inside of a layer's name is none."""
    return pc.replace_substring_regex(text, _HOME, r"\1~")


def _api_names(names: pa.Array) -> pa.Array:
    return pa.array([_API_SUFFIX.sub("", name) for name in names.to_pylist()], STRING)


def _api_kinds(names: pa.Array) -> pa.Array:
    return pa.array(["runtime" if name.startswith("cuda") else "driver" for name in names.to_pylist()], STRING)


_HOW_NAMED: Mapping[How, Callable[[pa.Array], pa.Array]] = {
    How.STRING: lambda names: names,
    How.API_NAME: _api_names,
    How.API_KIND: _api_kinds,
}


def _domain_name(key: int) -> str:
    """The name of a domain whose creation is not in the report: 0 is the default domain, which has none."""
    number = key & 0xFFFFFFFF
    return f"domain {number}" if number else ""


def _mapped(values: pa.Array, name: Callable[[Ints], pa.Array]) -> pa.Array:
    """`values`, integers, each replaced by its name: as a dictionary array whose words are distinct."""
    encoded = values.dictionary_encode()
    if not len(encoded.dictionary):
        return pa.nulls(len(values), WORD)
    words = name(encoded.dictionary.to_numpy()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(words.indices.take(encoded.indices), words.dictionary)


def _filled(value: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """No null where the schema allows none: -1 for a number that is not known, no text for text."""
    if pa.types.is_dictionary(kind):
        return pc.fill_null(value.cast(STRING), "").dictionary_encode()
    return pc.fill_null(value, "" if kind == STRING else -1)


def _numpy(values: pa.Array | pa.ChunkedArray) -> Ints:
    result: Ints = pc.fill_null(values, -1).to_numpy()
    return result


def _nulls(values: pa.Array) -> npt.NDArray[np.bool_] | None:
    return values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
