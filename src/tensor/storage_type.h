// Types in which weights are stored, in files and in memory: plain elements, or quantised blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "tensor/block_format.h"
#include "tensor/dtype.h"

namespace mochi {

using StorageType = std::variant<DType, BlockFormat>;

// Returns the name that files use: "F8_E4M3", "Q4_K".
const char* storage_type_name(const StorageType& type);

// Size of so many elements, which are whole blocks (else Error).
std::size_t storage_bytes(const StorageType& type, std::int64_t num_elements);

// Returns true if products can take weights of this type as they are stored: it is smaller than
// BF16.
bool is_compact(const StorageType& type);

// values [rows · row_size] = elements · scales. There are no scales, one, or one for each row.
// `elements` needs no alignment; its type is a float, I8 or a block format, else Error. Runs in
// parallel.
void widen_rows(const StorageType& type, std::span<const std::byte> elements,
                std::span<const float> scales, std::int64_t num_rows, std::span<float> values);

}  // namespace mochi
