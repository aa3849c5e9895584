#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <set>
#include <utility>

#include "base/atomic_file.h"
#include "base/checked_math.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "io/json.h"

namespace mochi {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor bytes are used as they lie");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr const char* kMetadataKey = "__metadata__";

struct StoredType {
  std::string_view name;
  std::uint64_t num_bits;
  std::optional<DType> dtype;
};

// All types of the format: files that hold some we never read must still load.
constexpr std::array kStoredTypes{
    StoredType{"F32", 32, DType::kF32},       StoredType{"F16", 16, DType::kF16},
    StoredType{"BF16", 16, DType::kBF16},     StoredType{"F8_E4M3", 8, DType::kF8E4M3},
    StoredType{"F8_E5M2", 8, DType::kF8E5M2}, StoredType{"I32", 32, DType::kI32},
    StoredType{"U8", 8, DType::kU8},          StoredType{"F64", 64, std::nullopt},
    StoredType{"I64", 64, std::nullopt},      StoredType{"U64", 64, std::nullopt},
    StoredType{"C64", 64, std::nullopt},      StoredType{"U32", 32, std::nullopt},
    StoredType{"I16", 16, std::nullopt},      StoredType{"U16", 16, std::nullopt},
    StoredType{"I8", 8, DType::kI8},          StoredType{"BOOL", 8, std::nullopt},
    StoredType{"F8_E8M0", 8, std::nullopt},   StoredType{"F6_E2M3", 6, std::nullopt},
    StoredType{"F6_E3M2", 6, std::nullopt},   StoredType{"F4", 4, std::nullopt},
};

const StoredType* find_stored_type(std::string_view name) {
  const auto* const found = std::ranges::find(kStoredTypes, name, &StoredType::name);
  return found == kStoredTypes.end() ? nullptr : found;
}

// Where an entry lies in the data section, for the check that nothing overlaps.
struct Extent {
  std::uint64_t begin;
  std::uint64_t end;
  std::string_view name;
};

class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> bytes, const std::filesystem::path& path)
      : file_name_(path.string()) {
    const auto fail_kind = [&] { fail_wrong_kind(path, bytes, "a safetensors file"); };
    if (bytes.size() < kLengthBytes) fail_kind();
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
    if (header_bytes > kMaxHeaderBytes) fail_kind();
    if (bytes.size() > kLengthBytes && static_cast<char>(bytes[kLengthBytes]) != '{') fail_kind();
    if (header_bytes > bytes.size() - kLengthBytes) {
      fail("{}: truncated: header of {} bytes in a file of {}", file_name_, header_bytes,
           bytes.size());
    }
    if (header_bytes == 0 && bytes.size() == kLengthBytes) fail_kind();
    if (header_bytes == 0) fail("{}: the header is empty: the file is damaged", file_name_);
    header_ = {reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, header_bytes};
    data_ = bytes.subspan(kLengthBytes + header_bytes);
  }

  void parse(std::map<std::string, StoredEntry, std::less<>>& entries,
             std::map<std::string, std::string>& metadata) {
    const Json header = parse_json(header_, file_name_ + " (header)");
    std::vector<Extent> extents;
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadataKey) {
        metadata = parse_metadata(value);
      } else {
        const auto [entry, is_new] = entries.emplace(name, StoredEntry{});
        extents.push_back(parse_entry(entry->first, value, entry->second));
      }
    }
    check_extents(extents);
  }

 private:
  // Other writers leave more than strings here. Nothing but an object holds metadata.
  static std::map<std::string, std::string> parse_metadata(const Json& value) {
    std::map<std::string, std::string> metadata;
    if (!value.is_object()) return metadata;
    for (const auto& [key, item] : value.items()) {
      if (item.is_null()) continue;
      metadata[key] = item.is_string() ? item.get<std::string>() : item.dump();
    }
    return metadata;
  }

  Extent parse_entry(const std::string& name, const Json& value, StoredEntry& entry) const {
    JsonReader reader(value, file_name_, name);
    entry.dtype_name = reader.require_string("dtype");
    if (!reader.has("shape")) fail("{}: tensor '{}' has no shape", file_name_, name);
    entry.sizes = reader.get_ints("shape", {});
    const std::vector<std::int64_t> offsets = reader.get_ints("data_offsets", {});

    const std::string what = fmt::format("{}: tensor '{}'", file_name_, name);
    if (offsets.size() != 2) fail("{}: wanted two data_offsets, found {}", what, offsets.size());
    if (offsets[0] < 0 || offsets[1] < 0) {
      fail("{}: negative data_offsets [{}, {}]", what, offsets[0], offsets[1]);
    }
    const auto begin = static_cast<std::uint64_t>(offsets[0]);
    const auto end = static_cast<std::uint64_t>(offsets[1]);
    if (begin > end || end > data_.size()) {
      fail(
          "{}: data_offsets [{}, {}] outside of the {} data bytes: the file is cut short or "
          "damaged",
          what, begin, end, data_.size());
    }
    const std::uint64_t wanted_bytes = size_of(entry, what);
    if (end - begin != wanted_bytes) {
      fail("{}: {} [{}] takes {} bytes, but data_offsets hold {}", what, entry.dtype_name,
           fmt::join(entry.sizes, ", "), wanted_bytes, end - begin);
    }
    entry.bytes = data_.subspan(begin, end - begin);
    return {begin, end, name};
  }

  static std::uint64_t size_of(const StoredEntry& entry, const std::string& what) {
    const StoredType* type = find_stored_type(entry.dtype_name);
    if (type == nullptr) fail("{}: unknown dtype '{}'", what, entry.dtype_name);
    std::uint64_t num_elements = 1;
    for (const std::int64_t size : entry.sizes) {
      if (size < 0) fail("{}: negative size in shape [{}]", what, fmt::join(entry.sizes, ", "));
      num_elements = checked_mul(num_elements, static_cast<std::uint64_t>(size), what);
    }
    constexpr std::uint64_t kBitsPerByte = 8;
    const std::uint64_t num_bits = checked_mul(num_elements, type->num_bits, what);
    if (num_bits % kBitsPerByte != 0) {
      fail("{}: {} [{}] does not end on a byte", what, entry.dtype_name,
           fmt::join(entry.sizes, ", "));
    }
    return num_bits / kBitsPerByte;
  }

  void check_extents(std::vector<Extent>& extents) const {
    std::ranges::sort(extents, [](const Extent& left, const Extent& right) {
      return std::tie(left.begin, left.end) < std::tie(right.begin, right.end);
    });
    std::uint64_t covered = 0;
    for (const Extent& extent : extents) {
      if (extent.begin < covered) {
        fail("{}: tensor '{}' overlaps another one at data byte {}", file_name_, extent.name,
             extent.begin);
      }
      if (extent.begin > covered) {
        fail("{}: data bytes {} to {} belong to no tensor", file_name_, covered, extent.begin);
      }
      covered = extent.end;
    }
    if (covered != data_.size()) {
      fail("{}: data bytes {} to {} belong to no tensor", file_name_, covered, data_.size());
    }
  }

  std::string file_name_;
  std::string_view header_;
  std::span<const std::byte> data_;
};

void check_tensors(const std::string& file_name, std::span<const NamedTensor> tensors) {
  std::set<std::string_view> names;
  for (const NamedTensor& tensor : tensors) {
    if (tensor.name == kMetadataKey || !names.insert(tensor.name).second) {
      fail("cannot write '{}': tensor name '{}' is taken", file_name, tensor.name);
    }
    const std::size_t wanted_bytes =
        static_cast<std::size_t>(tensor.shape.num_elements()) * dtype_bytes(tensor.dtype);
    if (tensor.bytes.size() != wanted_bytes) {
      fail("cannot write '{}': tensor '{}' {} {} takes {} bytes, found {}", file_name, tensor.name,
           dtype_name(tensor.dtype), tensor.shape.to_string(), wanted_bytes, tensor.bytes.size());
    }
  }
}

}  // namespace

std::optional<DType> parse_dtype(std::string_view name) {
  const StoredType* type = find_stored_type(name);
  return type == nullptr ? std::nullopt : type->dtype;
}

std::optional<StorageType> parse_storage_type(std::string_view name) {
  if (const auto format = parse_block_format(name)) return *format;
  return parse_dtype(name);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path), path_(path) {
  parse(file_.bytes());
  for (auto& [name, entry] : entries_) entry.file = &file_;
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::filesystem::path name)
    : path_(std::move(name)) {
  parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  HeaderParser(bytes, path_).parse(entries_, metadata_);
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata, StopFn should_stop) {
  check_tensors(path.string(), tensors);
  // Wide elements first: with a header padded to 8 bytes every tensor is then aligned.
  std::vector<const NamedTensor*> ordered;
  for (const NamedTensor& tensor : tensors) ordered.push_back(&tensor);
  std::ranges::stable_sort(ordered, std::greater<>{},
                           [](const NamedTensor* tensor) { return dtype_bytes(tensor->dtype); });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::uint64_t offset = 0;
  for (const NamedTensor* tensor : ordered) {
    const std::uint64_t end = checked_add<std::uint64_t>(offset, tensor->bytes.size(), "file");
    const std::span<const std::int64_t> sizes = tensor->shape.sizes();
    header[tensor->name] = {{"dtype", dtype_name(tensor->dtype)},
                            {"shape", std::vector<std::int64_t>(sizes.begin(), sizes.end())},
                            {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');
  if (text.size() > kMaxHeaderBytes) fail("cannot write '{}': header too large", path.string());

  AtomicFile file(path, SpecialFile::kWriteThrough, std::move(should_stop));
  const std::array<std::uint64_t, 1> length{text.size()};
  file.write(std::as_bytes(std::span(length)));
  file.write(text);
  for (const NamedTensor* tensor : ordered) file.write(tensor->bytes);
  file.commit();
}

}  // namespace mochi
