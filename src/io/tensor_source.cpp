#include "io/tensor_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/nearest.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

// `shape` with another first size.
Shape with_rows(const Shape& shape, std::int64_t num_rows) {
  std::array<std::int64_t, Shape::kMaxRank> sizes{};
  std::ranges::copy(shape.sizes(), sizes.begin());
  sizes[0] = num_rows;
  return Shape(std::span<const std::int64_t>(sizes.data(), shape.sizes().size()));
}

struct Rows {
  std::int64_t begin;
  std::int64_t end;
};

// The range with its default end filled in; Error unless it lies inside the tensor.
Rows resolve_rows(const RowRange& range, const TensorInfo& info) {
  if (info.shape.rank() == 0) {
    fail("tensor '{}' in '{}': wanted rows, found a scalar", range.source_name, info.origin);
  }
  const std::int64_t num_rows = info.shape[0];
  const std::int64_t end = range.end == RowRange::kToEnd ? num_rows : range.end;
  if (range.begin < 0 || range.begin > end || end > num_rows) {
    fail("tensor '{}' in '{}': wanted rows {} to {}, found {}", range.source_name, info.origin,
         range.begin, end, info.shape.to_string());
  }
  return {range.begin, end};
}

bool is_whole(const RowRange& range) { return range.begin == 0 && range.end == RowRange::kToEnd; }

// Rows [begin, end) of parts that follow one another.
void append_rows(std::span<const StoredRows> parts, Rows wanted, std::vector<StoredRows>& out) {
  std::int64_t part_begin = 0;
  for (const StoredRows& part : parts) {
    const std::int64_t num_rows = part.shape[0];
    const std::int64_t begin = std::max(wanted.begin - part_begin, std::int64_t{0});
    const std::int64_t end = std::min(wanted.end - part_begin, num_rows);
    if (begin < end) {
      const std::size_t row_bytes = part.bytes.size() / static_cast<std::size_t>(num_rows);
      const bool has_row_scales = std::ssize(part.scales) == num_rows;
      out.push_back({part.type, with_rows(part.shape, end - begin),
                     part.bytes.subspan(static_cast<std::size_t>(begin) * row_bytes,
                                        static_cast<std::size_t>(end - begin) * row_bytes),
                     part.owner,
                     has_row_scales
                         ? std::vector(part.scales.begin() + begin, part.scales.begin() + end)
                         : part.scales,
                     part.file});
    }
    part_begin += num_rows;
  }
}

void copy_converted(const StoredRows& part, DType target_dtype, std::byte* target) {
  const auto num_elements = static_cast<std::size_t>(part.shape.num_elements());
  const DType dtype = std::get<DType>(part.type);
  if (num_elements == 0) return;
  if (dtype == target_dtype) {
    std::memcpy(target, part.bytes.data(), part.bytes.size());
  } else if (target_dtype == DType::kF32) {
    convert_to_f32(dtype, part.bytes, {reinterpret_cast<float*>(target), num_elements});
  } else {
    convert_to_bf16(dtype, part.bytes, {reinterpret_cast<BFloat16*>(target), num_elements});
  }
}

bool is_plain_float(const StorageType& type) {
  const auto* const dtype = std::get_if<DType>(&type);
  return dtype != nullptr && is_float(*dtype);
}

}  // namespace

bool TensorInfo::has_values() const {
  return is_plain_float(type) || std::holds_alternative<BlockFormat>(type) || is_scaled;
}

void StoredRows::release() const {
  if (file != nullptr) file->release(bytes);
}

bool StoredRows::is_plain() const { return is_plain_float(type) && scales.empty(); }

StoredRows widen(const StoredRows& rows) {
  if (rows.is_plain()) return rows;
  const auto values = std::make_shared<const Tensor>(DType::kF32, rows.shape);
  const TensorView& view = values->view();
  // Without scales all is one row, because blocks may lie across rows.
  const bool is_one_row = rows.scales.empty() || rows.shape.rank() == 0;
  widen_rows(rows.type, rows.bytes, rows.scales, is_one_row ? 1 : rows.shape[0], view.f32());
  return {DType::kF32, rows.shape, {view.bytes(), view.size_bytes()}, values};
}

void TensorSource::fail_missing(std::string_view name) const {
  fail("no tensor '{}' in {}, {}", name, description(), suggest_name(name, names()));
}

TensorInfo TensorSource::require(std::string_view name, const Shape& shape) const {
  TensorInfo found = info(name);
  if (!(found.shape == shape)) {
    fail("tensor '{}' in '{}': wanted shape {}, found {}", name, found.origin, shape.to_string(),
         found.shape.to_string());
  }
  return found;
}

Shape TensorSource::require_rank(std::string_view name, int rank) const {
  const TensorInfo found = info(name);
  if (found.shape.rank() != rank) {
    fail("tensor '{}' in '{}': wanted {} dimensions, found {}", name, found.origin, rank,
         found.shape.to_string());
  }
  return found.shape;
}

void TensorSource::read(std::string_view name, const TensorView& target) const {
  const TensorInfo found = require(name, target.shape());
  const DType wanted = target.dtype();
  const std::vector<StoredRows> parts = stored_rows(name);
  std::byte* out = target.bytes();
  for (const StoredRows& part : parts) {
    const bool is_convertible =
        found.has_values() && (wanted == DType::kF32 || wanted == DType::kBF16);
    if (part.type != StorageType(wanted) && !is_convertible) {
      fail("tensor '{}' in '{}': wanted {}, found {}", name, found.origin, dtype_name(wanted),
           storage_type_name(part.type));
    }
    require_finite(name, found.origin, part);
    copy_converted(is_convertible ? widen(part) : part, wanted, out);
    part.release();
    out += static_cast<std::size_t>(part.shape.num_elements()) * dtype_bytes(wanted);
  }
}

void TensorSource::read_f32(std::string_view name, std::span<float> target) const {
  const TensorInfo found = info(name);
  if (static_cast<std::size_t>(found.shape.num_elements()) != target.size()) {
    fail("tensor '{}' in '{}': wanted {} elements, found {}", name, found.origin, target.size(),
         found.shape.to_string());
  }
  read(name, TensorView(target.data(), DType::kF32, found.shape));
}

void require_finite(std::string_view name, const std::string& origin, const StoredRows& part) {
  const auto* const format = std::get_if<BlockFormat>(&part.type);
  const bool is_finite = format != nullptr ? all_finite(*format, part.bytes)
                                           : all_finite(std::get<DType>(part.type), part.bytes);
  constexpr float kLargestElement = 57344.0F;  // the largest F8_E5M2; other scaled types end before
  const bool has_finite_products = std::ranges::all_of(
      part.scales, [](float scale) { return std::isfinite(scale * kLargestElement); });
  if (is_finite && has_finite_products) return;
  fail("tensor '{}' in '{}': has values that are not finite (NaN or infinite)", name, origin);
}

KeyMappedSource::KeyMappedSource(std::shared_ptr<const TensorSource> source, KeyMap map,
                                 std::string prefix)
    : source_(std::move(source)), map_(std::move(map)), prefix_(std::move(prefix)) {
  for (const auto& [name, parts] : map_) {
    if (parts.empty()) fail("tensor '{}' is mapped to no tensor of {}", name, description());
  }
}

std::string KeyMappedSource::description() const { return source_->description(); }

std::vector<std::string> KeyMappedSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, parts] : map_) names.push_back(name);
  return names;
}

bool KeyMappedSource::contains(std::string_view name) const {
  const auto found = map_.find(name);
  return found != map_.end() && std::ranges::all_of(found->second, [this](const RowRange& range) {
           return source_->contains(range.source_name);
         });
}

const std::vector<RowRange>& KeyMappedSource::parts_of(std::string_view name) const {
  const auto found = map_.find(name);
  if (found == map_.end()) fail_missing(name);
  return found->second;
}

TensorInfo KeyMappedSource::info(std::string_view name) const {
  const std::vector<RowRange>& parts = parts_of(name);
  TensorInfo whole = source_->info(parts.front().source_name);
  if (parts.size() == 1 && is_whole(parts.front())) return whole;
  std::int64_t num_rows = 0;
  std::optional<StorageType> unreadable;
  for (const RowRange& range : parts) {
    const TensorInfo part = source_->info(range.source_name);
    const Rows rows = resolve_rows(range, part);
    if (!part.has_values()) unreadable = part.type;
    if (part.type != whole.type) whole.type = DType::kF32;
    whole.is_scaled = whole.is_scaled || part.is_scaled;
    if (is_whole(range) && part.shape[0] != whole.shape[0]) {
      fail("tensor '{}' in '{}': wanted as many rows as '{}' {}, found {}", range.source_name,
           part.origin, parts.front().source_name, whole.shape.to_string(), part.shape.to_string());
    }
    if (!(with_rows(part.shape, 0) == with_rows(whole.shape, 0))) {
      fail("tensor '{}' in '{}': wanted rows like those of '{}' {}, found {}", range.source_name,
           part.origin, parts.front().source_name, whole.shape.to_string(), part.shape.to_string());
    }
    num_rows = checked_add(num_rows, rows.end - rows.begin, "number of rows");
  }
  whole.shape = with_rows(whole.shape, num_rows);
  if (unreadable) return {*unreadable, whole.shape, whole.origin};
  return whole;
}

std::vector<StoredRows> KeyMappedSource::stored_rows(std::string_view name) const {
  std::vector<StoredRows> rows;
  for (const RowRange& range : parts_of(name)) {
    std::vector<StoredRows> parts = source_->stored_rows(range.source_name);
    if (is_whole(range)) {
      rows.insert(rows.end(), parts.begin(), parts.end());
    } else {
      append_rows(parts, resolve_rows(range, source_->info(range.source_name)), rows);
    }
  }
  return rows;
}

std::vector<std::string> KeyMappedSource::unread() const {
  std::vector<std::string> names = source_->unread();
  std::erase_if(names, [this](const std::string& name) { return !name.starts_with(prefix_); });
  return names;
}

}  // namespace mochi
