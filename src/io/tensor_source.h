// Sources of weights: named tensors, looked up by the names that the model uses. A Checkpoint has
// the names of its files; a KeyMappedSource has other names, and tensors that are assembled from
// parts.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/shape.h"
#include "tensor/storage_type.h"
#include "tensor/tensor.h"

namespace mochi {

struct TensorInfo {
  StorageType type = DType::kF32;  // as stored; F32 if the parts have several types
  Shape shape;
  std::string origin;      // the file (of the first part)
  bool is_scaled = false;  // the elements are multiplied by scales

  // Returns true if the values are real numbers that can be read as F32.
  bool has_values() const;
};

// Part of a tensor as it is stored: whole rows of dimension 0, row-major. The bytes live as long as
// their owner or, where there is none, the source; they have any alignment and must not be written
// to.
struct StoredRows {
  StorageType type = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner = nullptr;  // owns values that were computed on request
  // None, one, or one for each row: a value is an element times its scale.
  std::vector<float> scales = {};
  const MappedFile* file = nullptr;  // which the bytes are part of, if it is mapped

  bool is_plain() const;  // true for floats without scales
  // Takes the bytes out of the process's memory until they are read again, if a file holds them.
  void release() const;
};

// Returns the values as plain floats: the rows themselves if they are plain, otherwise F32.
StoredRows widen(const StoredRows& rows);

// Const calls are safe from several threads.
class TensorSource {
 public:
  TensorSource() = default;
  virtual ~TensorSource() = default;
  TensorSource(const TensorSource&) = delete;
  TensorSource& operator=(const TensorSource&) = delete;

  virtual std::string description() const = 0;         // "'dir/dit.safetensors'", for messages
  virtual std::vector<std::string> names() const = 0;  // sorted
  virtual bool contains(std::string_view name) const = 0;
  // Error when there is no such tensor, or its type or rank is none the engine works with.
  virtual TensorInfo info(std::string_view name) const = 0;
  // The parts that make up the tensor, in order. Counts as reading it.
  virtual std::vector<StoredRows> stored_rows(std::string_view name) const = 0;
  // Stored tensors that nobody has read, by their names in the file; sorted.
  virtual std::vector<std::string> unread() const = 0;

  // info(), with an Error unless the shape is the wanted one.
  TensorInfo require(std::string_view name, const Shape& shape) const;
  // The shape, with an Error unless it has this many dimensions.
  Shape require_rank(std::string_view name, int rank) const;

  // Copies the tensor into `target` (host memory), converting the values to its type. An Error
  // names the tensor, the file, what was wanted and what was found; values that are not finite are
  // one.
  void read(std::string_view name, const TensorView& target) const;
  void read_f32(std::string_view name, std::span<float> target) const;

 protected:
  // "no tensor 'x' in 'file', did you mean ...".
  [[noreturn]] void fail_missing(std::string_view name) const;
};

// Throws Error naming the tensor and the file when a value of this part is NaN or infinite.
void require_finite(std::string_view name, const std::string& origin, const StoredRows& part);

// Rows [begin, end) of a tensor of another source; by default all of them.
struct RowRange {
  static constexpr std::int64_t kToEnd = -1;

  std::string source_name;
  std::int64_t begin = 0;
  std::int64_t end = kToEnd;
};

// Each target tensor is the concatenation, along dimension 0, of row ranges of source tensors.
// Those that are joined whole have equally many rows.
class KeyMappedSource final : public TensorSource {
 public:
  using KeyMap = std::map<std::string, std::vector<RowRange>, std::less<>>;

  // Only source tensors whose names start with `prefix` count as unread.
  KeyMappedSource(std::shared_ptr<const TensorSource> source, KeyMap map, std::string prefix = "");

  std::string description() const override;
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override;
  TensorInfo info(std::string_view name) const override;
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override;

 private:
  const std::vector<RowRange>& parts_of(std::string_view name) const;

  std::shared_ptr<const TensorSource> source_;
  KeyMap map_;
  std::string prefix_;
};

}  // namespace mochi
