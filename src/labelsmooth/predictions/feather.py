"""Predictions in .feather files, which hold Arrow's own record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from labelsmooth.files import reading
from labelsmooth.predictions.arrow import DAMAGE, ArrowTable, is_list, slices, width


class FeatherTable(ArrowTable):
    """The columns of a .feather file."""

    def __init__(self, path: Path) -> None:
        with reading(path, DAMAGE), pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            fields = [(field.name, field.type) for field in file.schema]
            sizes = [file.get_batch(number).num_rows for number in range(file.num_record_batches)]
            widths = dict.fromkeys((name for name, kind in fields if is_list(kind)), 0)
            if widths and any(sizes):
                first = file.get_batch(next(number for number, size in enumerate(sizes) if size))
                first.validate(full=True)
                widths = {name: width(first.column(name)) for name in widths}
        super().__init__(path, fields, sum(sizes), widths)

    def _batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        number = count = 0
        while number == 0 or number < count:
            # mapped anew for every batch, which gives back its pages
            with self._reading(), pa.memory_map(str(self.path)) as source:
                schema = pa.ipc.open_file(source).schema
                chosen = [schema.get_field_index(name) for name in names]
                options = pa.ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
                file = pa.ipc.open_file(source, options=options)
                count = file.num_record_batches
                batch = file.get_batch(number)
                batch.validate(full=True)  # offsets that lead out of the file
            yield from slices(batch, rows)
            number += 1
