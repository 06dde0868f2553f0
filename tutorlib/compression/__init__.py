"""Smaller models for inference."""

from tutorlib.compression.int8 import FusedInt8Linear, Int8Linear, absmax_int8, packed, quantize, unpacked, weight_bytes

__all__ = ["FusedInt8Linear", "Int8Linear", "absmax_int8", "packed", "quantize", "unpacked", "weight_bytes"]
