"""Files: written whole, listed with their SHA-256 in the manifest of a run, and the text of tables and JSON documents."""

from cnnkit.files.manifest import check_file, read_checked, remove_file, start_manifest
from cnnkit.files.regular import open_regular, parse_json, read_json, read_regular
from cnnkit.files.text import class_columns, csv_parts, csv_text, json_text, restored, utf8
from cnnkit.files.whole import check_writable, fingerprint, lock_file, locked
from cnnkit.files.writing import whole_file, write_bytes, write_csv, write_json, write_text

__all__ = [
    "check_file",
    "check_writable",
    "class_columns",
    "csv_parts",
    "csv_text",
    "fingerprint",
    "json_text",
    "lock_file",
    "locked",
    "open_regular",
    "parse_json",
    "read_checked",
    "read_json",
    "read_regular",
    "remove_file",
    "restored",
    "start_manifest",
    "utf8",
    "whole_file",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_text",
]
