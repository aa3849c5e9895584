#include "io/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <type_traits>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/printable.h"
#include "tensor/shape.h"

namespace mochi {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are used as they lie");

constexpr std::uint32_t kOldestVersion = 2;
constexpr std::uint32_t kNewestVersion = 3;
constexpr std::uint64_t kMaxAlignment = 1 << 20;
constexpr std::size_t kMaxArrayInMetadata = 16;
constexpr int kMaxArrayDepth = 4;
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::string_view kShapeKey = "comfy.gguf.orig_shape.";

// All types of the format: files that hold some which the engine never reads must still load.
constexpr std::array kGgmlTypes{
    GgmlType{0, "F32", 1, 4},         GgmlType{1, "F16", 1, 2},
    GgmlType{2, "Q4_0", 32, 18},      GgmlType{3, "Q4_1", 32, 20},
    GgmlType{6, "Q5_0", 32, 22},      GgmlType{7, "Q5_1", 32, 24},
    GgmlType{8, "Q8_0", 32, 34},      GgmlType{9, "Q8_1", 32, 36},
    GgmlType{10, "Q2_K", 256, 84},    GgmlType{11, "Q3_K", 256, 110},
    GgmlType{12, "Q4_K", 256, 144},   GgmlType{13, "Q5_K", 256, 176},
    GgmlType{14, "Q6_K", 256, 210},   GgmlType{15, "Q8_K", 256, 292},
    GgmlType{16, "IQ2_XXS", 256, 66}, GgmlType{17, "IQ2_XS", 256, 74},
    GgmlType{18, "IQ3_XXS", 256, 98}, GgmlType{19, "IQ1_S", 256, 50},
    GgmlType{20, "IQ4_NL", 32, 18},   GgmlType{21, "IQ3_S", 256, 110},
    GgmlType{22, "IQ2_S", 256, 82},   GgmlType{23, "IQ4_XS", 256, 136},
    GgmlType{24, "I8", 1, 1},         GgmlType{25, "I16", 1, 2},
    GgmlType{26, "I32", 1, 4},        GgmlType{27, "I64", 1, 8},
    GgmlType{28, "F64", 1, 8},        GgmlType{29, "IQ1_M", 256, 56},
    GgmlType{30, "BF16", 1, 2},       GgmlType{34, "TQ1_0", 256, 54},
    GgmlType{35, "TQ2_0", 256, 66},   GgmlType{39, "MXFP4", 32, 17},
    GgmlType{40, "NVFP4", 64, 36},
};

// Types of metadata values.
enum class ValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// Reads numbers and strings one after the other and never beyond the end.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string file_name)
      : bytes_(bytes), file_name_(std::move(file_name)) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }
  const std::string& file_name() const { return file_name_; }

  // `what` names the thing in errors.
  std::span<const std::byte> take(std::uint64_t num_bytes, std::string_view what) {
    if (num_bytes > remaining()) {
      fail("{}: truncated or damaged: {} takes {} bytes, and {} are left", file_name_, what,
           num_bytes, remaining());
    }
    const std::span<const std::byte> taken = bytes_.subspan(position_, num_bytes);
    position_ += num_bytes;
    return taken;
  }

  template <typename T>
  T number(std::string_view what) {
    T value{};
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string_view string(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const std::span<const std::byte> bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  // A count of things that take at least `least_bytes` each.
  std::uint64_t count(std::uint64_t least_bytes, std::string_view what) {
    const auto value = number<std::uint64_t>(what);
    check_count(value, least_bytes, what);
    return value;
  }

  void check_count(std::uint64_t value, std::uint64_t least_bytes, std::string_view what) const {
    if (value <= remaining() / least_bytes) return;
    fail("{}: truncated or damaged: {} is {}, and {} bytes are left", file_name_, what, value,
         remaining());
  }

 private:
  std::span<const std::byte> bytes_;
  std::string file_name_;
  std::uint64_t position_ = 0;
};

// A value as text; nothing for an array that is too long to be of interest.
using Text = std::optional<std::string>;

std::uint64_t least_bytes_of(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kString:
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    case ValueType::kArray:
      return 12;  // type and length
  }
  return 0;
}

ValueType read_value_type(Reader& reader, const std::string& what) {
  const auto type = reader.number<std::uint32_t>(what);
  if (type > static_cast<std::uint32_t>(ValueType::kF64)) {
    fail("{}: {} has the unknown type {}", reader.file_name(), what, type);
  }
  return static_cast<ValueType>(type);
}

template <typename T>
std::string number_text(Reader& reader, const std::string& what) {
  if constexpr (sizeof(T) == 1) {
    return fmt::to_string(static_cast<int>(reader.number<T>(what)));
  } else {
    return fmt::to_string(reader.number<T>(what));
  }
}

Text read_value(Reader& reader, ValueType type, const std::string& what, int depth);

Text read_array(Reader& reader, const std::string& what, int depth) {
  if (depth == kMaxArrayDepth) {
    fail("{}: {} has more than {} nested arrays", reader.file_name(), what, kMaxArrayDepth);
  }
  const ValueType type = read_value_type(reader, what);
  const std::uint64_t count = reader.count(least_bytes_of(type), what + " (length)");
  if (type != ValueType::kString && type != ValueType::kArray && count > kMaxArrayInMetadata) {
    reader.take(count * least_bytes_of(type), what);
    return std::nullopt;
  }
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Text text = read_value(reader, type, what, depth + 1);
    if (text && count <= kMaxArrayInMetadata) texts.push_back(*text);
  }
  if (count > kMaxArrayInMetadata) return std::nullopt;
  return fmt::format("{}", fmt::join(texts, ", "));
}

Text read_value(Reader& reader, ValueType type, const std::string& what, int depth) {
  switch (type) {
    case ValueType::kU8:
      return number_text<std::uint8_t>(reader, what);
    case ValueType::kI8:
      return number_text<std::int8_t>(reader, what);
    case ValueType::kU16:
      return number_text<std::uint16_t>(reader, what);
    case ValueType::kI16:
      return number_text<std::int16_t>(reader, what);
    case ValueType::kU32:
      return number_text<std::uint32_t>(reader, what);
    case ValueType::kI32:
      return number_text<std::int32_t>(reader, what);
    case ValueType::kF32:
      return number_text<float>(reader, what);
    case ValueType::kBool:
      return reader.number<std::uint8_t>(what) != 0 ? "true" : "false";
    case ValueType::kString:
      return std::string(reader.string(what));
    case ValueType::kArray:
      return read_array(reader, what, depth);
    case ValueType::kU64:
      return number_text<std::uint64_t>(reader, what);
    case ValueType::kI64:
      return number_text<std::int64_t>(reader, what);
    case ValueType::kF64:
      return number_text<double>(reader, what);
  }
  return std::nullopt;
}

// Returns the numbers of "3072, 12, 2"; nothing if there is anything else.
std::optional<std::vector<std::int64_t>> parse_sizes(const std::string& text) {
  std::vector<std::int64_t> sizes;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(", ", begin), text.size());
    const std::string digits = text.substr(begin, end - begin);
    constexpr std::size_t kMaxDigits = 18;  // below 2^63
    if (digits.empty() || digits.size() > kMaxDigits ||
        digits.find_first_not_of("0123456789") != std::string::npos) {
      return std::nullopt;
    }
    sizes.push_back(std::stoll(digits));
    begin = end + 2;
  }
  return sizes;
}

// The place of a tensor in the data, whose beginning is not known yet.
struct Placement {
  std::string_view name;
  StoredEntry* entry;
  std::uint64_t offset;
  std::uint64_t num_bytes;
};

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, const std::filesystem::path& path,
             const GgufFile* first_part)
      : reader_(bytes, path.string()), bytes_(bytes), path_(path), first_part_(first_part) {}

  void parse(std::map<std::string, StoredEntry, std::less<>>& entries,
             std::map<std::string, std::string>& metadata) {
    check_beginning();
    constexpr std::uint64_t kLeastTensorBytes = 24;  // with an empty name and no sizes
    constexpr std::uint64_t kLeastValueBytes = 13;
    const std::uint64_t num_tensors = reader_.count(kLeastTensorBytes, "the number of tensors");
    const std::uint64_t num_values = reader_.count(kLeastValueBytes, "the number of metadata keys");
    for (std::uint64_t i = 0; i < num_values; ++i) parse_value(metadata);
    set_alignment(metadata);
    for (std::uint64_t i = 0; i < num_tensors; ++i) parse_tensor(entries, metadata);
    place_tensors();
  }

 private:
  void check_beginning() {
    if (bytes_.size() < kGgufMagic.size() ||
        std::memcmp(bytes_.data(), kGgufMagic.data(), kGgufMagic.size()) != 0) {
      fail_wrong_kind(path_, bytes_, "a GGUF file");
    }
    reader_.take(kGgufMagic.size(), "the magic");
    const auto version = reader_.number<std::uint32_t>("the version");
    constexpr std::uint32_t kLowHalf = 0xffff;
    if (version != 0 && (version & kLowHalf) == 0) {
      fail("{}: big-endian GGUF files are not read", file_name());
    }
    if (version < kOldestVersion || version > kNewestVersion) {
      fail("{}: wanted version {} or {} of GGUF, found {}", file_name(), kOldestVersion,
           kNewestVersion, version);
    }
  }

  void parse_value(std::map<std::string, std::string>& metadata) {
    const std::string key(reader_.string("a metadata key"));
    const std::string what = fmt::format("metadata key '{}'", printable(key));
    if (!keys_.insert(key).second) fail("{}: {} occurs twice", file_name(), what);
    const ValueType type = read_value_type(reader_, what);
    const Text text = read_value(reader_, type, what, 0);
    if (text) metadata[key] = *text;
  }

  void set_alignment(const std::map<std::string, std::string>& metadata) {
    const auto found = metadata.find(std::string(kAlignmentKey));
    if (found == metadata.end()) return;
    const auto sizes = parse_sizes(found->second);
    alignment_ = sizes && sizes->size() == 1 ? static_cast<std::uint64_t>(sizes->front()) : 0;
    if (!std::has_single_bit(alignment_) || alignment_ > kMaxAlignment) {
      fail("{}: {}: wanted a power of two up to {}, found '{}'", file_name(), kAlignmentKey,
           kMaxAlignment, printable(found->second));
    }
  }

  void parse_tensor(std::map<std::string, StoredEntry, std::less<>>& entries,
                    const std::map<std::string, std::string>& metadata) {
    const std::string name(reader_.string("the name of a tensor"));
    const std::string what = fmt::format("tensor '{}'", printable(name));
    const auto [added, is_new] = entries.emplace(name, StoredEntry{});
    if (!is_new) fail("{}: {} occurs twice", file_name(), what);
    StoredEntry& entry = added->second;
    entry.sizes = read_sizes(what);
    const auto type_id = reader_.number<std::uint32_t>(what);
    const auto offset = reader_.number<std::uint64_t>(what);
    const GgmlType* type = find_ggml_type(type_id);
    if (type == nullptr) fail("{}: {} has the unknown type {}", file_name(), what, type_id);
    entry.dtype_name = type->name;
    const std::uint64_t num_bytes = count_bytes(entry, *type, what);
    restore_shape(name, metadata, entry);
    if (offset % alignment_ != 0) {
      fail("{}: {} begins at byte {} of the data, which is no multiple of {}", file_name(), what,
           offset, alignment_);
    }
    placements_.push_back({added->first, &entry, offset, num_bytes});
  }

  // The file has the size that varies fastest first.
  std::vector<std::int64_t> read_sizes(const std::string& what) {
    const auto rank = reader_.number<std::uint32_t>(what);
    if (rank > Shape::kMaxRank) {
      fail("{}: {}: wanted at most {} dimensions, found {}", file_name(), what, Shape::kMaxRank,
           rank);
    }
    std::vector<std::int64_t> sizes(rank);
    for (std::int64_t& size : sizes) size = reader_.number<std::int64_t>(what);
    std::ranges::reverse(sizes);
    return sizes;
  }

  std::uint64_t count_bytes(const StoredEntry& entry, const GgmlType& type,
                            const std::string& what) const {
    const std::string name = fmt::format("{}: {}", file_name(), what);
    std::uint64_t num_elements = 1;
    for (const std::int64_t size : entry.sizes) {
      if (size < 0) fail("{}: wrong shape [{}]", name, fmt::join(entry.sizes, ", "));
      num_elements = checked_mul(num_elements, static_cast<std::uint64_t>(size), name);
    }
    checked_mul(num_elements, std::uint64_t{sizeof(float)}, name);  // for its values
    const auto row =
        entry.sizes.empty() ? std::uint64_t{1} : static_cast<std::uint64_t>(entry.sizes.back());
    if (row % type.block_elements != 0) {
      fail("{}: rows of {} are whole blocks of {}, but its shape is [{}]", name, type.name,
           type.block_elements, fmt::join(entry.sizes, ", "));
    }
    return checked_mul(num_elements / type.block_elements, type.block_bytes, name);
  }

  // Replaces the shape by the one in the metadata, which a writer that stores other rows leaves.
  void restore_shape(const std::string& name, const std::map<std::string, std::string>& metadata,
                     StoredEntry& entry) const {
    const std::string key = std::string(kShapeKey) + name;
    const auto& stated =
        metadata.contains(key) || first_part_ == nullptr ? metadata : first_part_->metadata();
    const auto found = stated.find(key);
    if (found == stated.end()) return;
    const auto sizes = parse_sizes(found->second);
    const bool is_shape = sizes && sizes->size() <= Shape::kMaxRank;
    if (!is_shape || checked_product<std::int64_t>(*sizes, found->first) !=
                         checked_product<std::int64_t>(entry.sizes, found->first)) {
      fail("{}: {}: wanted a shape of as many elements as [{}], found [{}]", file_name(),
           printable(found->first), fmt::join(entry.sizes, ", "), printable(found->second));
    }
    entry.sizes = *sizes;
  }

  void place_tensors() {
    const std::uint64_t begin = (reader_.position() + alignment_ - 1) / alignment_ * alignment_;
    const std::span<const std::byte> data =
        begin < bytes_.size() ? bytes_.subspan(begin) : std::span<const std::byte>();
    std::ranges::sort(placements_, [](const Placement& left, const Placement& right) {
      return std::pair(left.offset, left.num_bytes) < std::pair(right.offset, right.num_bytes);
    });
    std::uint64_t covered = 0;
    for (const Placement& placement : placements_) {
      const std::uint64_t offset = placement.offset;
      if (offset > data.size() || placement.num_bytes > data.size() - offset) {
        fail(
            "{}: tensor '{}' takes {} bytes from byte {} of the data, which has {}: the file is "
            "cut short or damaged",
            file_name(), printable(placement.name), placement.num_bytes, offset, data.size());
      }
      if (offset < covered) {
        fail("{}: tensor '{}' overlaps another one at data byte {}", file_name(),
             printable(placement.name), offset);
      }
      placement.entry->bytes = data.subspan(offset, placement.num_bytes);
      covered = offset + placement.num_bytes;
    }
  }

  const std::string& file_name() const { return reader_.file_name(); }

  Reader reader_;
  std::span<const std::byte> bytes_;
  const std::filesystem::path& path_;
  const GgufFile* first_part_;
  std::uint64_t alignment_ = kGgufAlignment;
  std::set<std::string, std::less<>> keys_;
  std::vector<Placement> placements_;
};

}  // namespace

const GgmlType* find_ggml_type(std::uint32_t id) {
  const auto* const found = std::ranges::find(kGgmlTypes, id, &GgmlType::id);
  return found == kGgmlTypes.end() ? nullptr : found;
}

const GgmlType* find_ggml_type(std::string_view name) {
  const auto* const found = std::ranges::find(kGgmlTypes, name, &GgmlType::name);
  return found == kGgmlTypes.end() ? nullptr : found;
}

GgufFile::GgufFile(const std::filesystem::path& path, const GgufFile* first_part)
    : file_(path), path_(path) {
  parse(file_.bytes(), first_part);
  for (auto& [name, entry] : entries_) entry.file = &file_;
}

GgufFile::GgufFile(std::span<const std::byte> bytes, std::filesystem::path name)
    : path_(std::move(name)) {
  parse(bytes, nullptr);
}

void GgufFile::parse(std::span<const std::byte> bytes, const GgufFile* first_part) {
  GgufParser(bytes, path_, first_part).parse(entries_, metadata_);
}

}  // namespace mochi
