#include "io/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "io/json.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileEnding = ".safetensors";
constexpr std::string_view kIndexEnding = ".index.json";

// Files of a folder whose names end so, sorted. Hidden ones (macOS' "._model.safetensors") are
// passed over.
std::vector<fs::path> list_files(const fs::path& folder, std::string_view ending) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') || !name.ends_with(ending)) continue;
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

// "model.fp16.safetensors" names a variant: what stands before ".safetensors" has a dot.
bool is_variant(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.substr(0, name.find(kFileEnding)).find('.') != std::string::npos;
}

// The only index, or the only one without a variant; nothing where the folder has none.
std::optional<fs::path> choose_index(const fs::path& folder) {
  const std::vector<fs::path> all = list_files(folder, kIndexEnding);
  if (all.empty()) return std::nullopt;
  if (all.size() == 1) return all.front();
  std::vector<fs::path> plain;
  std::ranges::remove_copy_if(all, std::back_inserter(plain), is_variant);
  if (plain.size() != 1) {
    fail("folder '{}' holds {} checkpoints ('{}', '{}', ...): give the file instead",
         folder.string(), all.size(), all[0].filename().string(), all[1].filename().string());
  }
  return plain.front();
}

void check_shard_name(const std::string& shard, const std::string& index_name) {
  const bool is_plain =
      !shard.empty() && shard != "." && shard != ".." && shard.find('/') == std::string::npos &&
      shard.find('\\') == std::string::npos && shard.find('\0') == std::string::npos;
  if (!is_plain) fail("{}: shard '{}' is not a plain file name", index_name, shard);
}

void check_shards_exist(const fs::path& index,
                        const std::map<std::string, const SafetensorsFile*>& shards) {
  std::vector<std::string> missing;
  for (const auto& [shard, file] : shards) {
    std::error_code ignored;
    if (!fs::exists(index.parent_path() / shard, ignored)) missing.push_back(shard);
  }
  if (missing.empty()) return;
  constexpr std::size_t kMaxShown = 3;
  const std::size_t num_shown = std::min(missing.size(), kMaxShown);
  std::string names = fmt::format(
      "'{}'",
      fmt::join(missing.begin(), missing.begin() + static_cast<std::ptrdiff_t>(num_shown), "', '"));
  if (missing.size() > num_shown) names += fmt::format(" and {} more", missing.size() - num_shown);
  fail("{}: {} of its {} shards do not exist: {}", index.string(), missing.size(), shards.size(),
       names);
}

// A parsed number of any stored type; nothing for types that hold none.
template <typename T>
std::optional<double> read_as(std::span<const std::byte> bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), sizeof(T));
  return static_cast<double>(value);
}

std::optional<double> read_number(std::string_view dtype, std::span<const std::byte> bytes) {
  if (dtype == "F64") return read_as<double>(bytes);
  if (dtype == "I64") return read_as<std::int64_t>(bytes);
  if (dtype == "U64") return read_as<std::uint64_t>(bytes);
  if (dtype == "I32") return read_as<std::int32_t>(bytes);
  if (dtype == "U32") return read_as<std::uint32_t>(bytes);
  if (dtype == "I16") return read_as<std::int16_t>(bytes);
  if (dtype == "U16") return read_as<std::uint16_t>(bytes);
  if (dtype == "I8") return read_as<std::int8_t>(bytes);
  if (dtype == "U8") return read_as<std::uint8_t>(bytes);
  const std::optional<DType> known = parse_dtype(dtype);
  if (!known || !is_float(*known)) return std::nullopt;
  float value = 0;
  convert_to_f32(*known, bytes, {&value, 1});
  return value;
}

constexpr std::string_view kDouble = "F64";

// F64 elements rounded to F32.
std::shared_ptr<const Tensor> round_doubles(std::span<const std::byte> bytes, const Shape& shape) {
  const auto rounded = std::make_shared<const Tensor>(DType::kF32, shape);
  const std::span<float> values = rounded->view().f32();
  for (std::size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
    values[i] = static_cast<float>(value);
  }
  return rounded;
}

}  // namespace

std::shared_ptr<Checkpoint> Checkpoint::open(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_symlink(path, ignored) && !fs::exists(path, ignored)) {
    fail("cannot open '{}': it is {}", path.string(), describe_file_kind(path));
  }
  if (!fs::exists(path, ignored)) fail("cannot open '{}': no such file or folder", path.string());
  if (fs::is_regular_file(path) && !path.string().ends_with(kIndexEnding)) {
    return open_files({&path, 1});
  }
  const std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->description_ = fmt::format("'{}'", path.string());
  if (fs::is_directory(path)) {
    checkpoint->load_folder(path);
  } else {
    checkpoint->load_index(path);
  }
  return checkpoint;
}

std::shared_ptr<Checkpoint> Checkpoint::open_files(std::span<const fs::path> paths) {
  if (paths.empty()) fail("no checkpoint files given");
  const std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->description_ = fmt::format("'{}'", paths.front().string());
  if (paths.size() > 1) {
    checkpoint->description_ += fmt::format(" and {} more files", paths.size() - 1);
  }
  for (const fs::path& path : paths) {
    checkpoint->add_whole_file(std::make_unique<SafetensorsFile>(path));
  }
  return checkpoint;
}

std::shared_ptr<Checkpoint> Checkpoint::from_bytes(std::span<const std::byte> bytes,
                                                   const fs::path& name) {
  const std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->description_ = fmt::format("'{}'", name.string());
  checkpoint->add_whole_file(std::make_unique<SafetensorsFile>(bytes, name));
  return checkpoint;
}

const SafetensorsFile& Checkpoint::add_file(std::unique_ptr<SafetensorsFile> file) {
  files_.push_back(std::move(file));
  return *files_.back();
}

void Checkpoint::add_whole_file(std::unique_ptr<SafetensorsFile> file) {
  const SafetensorsFile& added = add_file(std::move(file));
  for (const auto& [name, stored] : added.entries()) add_entry(name, added);
}

void Checkpoint::add_entry(const std::string& name, const SafetensorsFile& file) {
  Entry& entry = entries_[name];
  if (entry.file != nullptr) {
    fail("tensor '{}' is in both '{}' and '{}'", name, entry.file->path().string(),
         file.path().string());
  }
  entry.file = &file;
  entry.stored = &file.entries().at(name);
}

void Checkpoint::load_folder(const fs::path& path) {
  if (const std::optional<fs::path> index = choose_index(path)) return load_index(*index);
  std::vector<fs::path> files = list_files(path, kFileEnding);
  if (files.empty()) fail("folder '{}' holds no *{} file", path.string(), kFileEnding);
  if (std::ranges::any_of(files, is_variant) && !std::ranges::all_of(files, is_variant)) {
    std::erase_if(files, is_variant);
  }
  for (const fs::path& file : files) add_whole_file(std::make_unique<SafetensorsFile>(file));
}

void Checkpoint::load_index(const fs::path& path) {
  const std::string index_name = path.string();
  const Json index = read_json(path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail("{}: wanted an object with a 'weight_map' object", index_name);
  }
  const Json& weight_map = index["weight_map"];
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, value] : weight_map.items()) {
    if (!value.is_string()) fail("{}: weight_map: shard of '{}' is no string", index_name, name);
    const auto shard = value.get<std::string>();
    check_shard_name(shard, index_name);
    shards[shard] = nullptr;
  }
  check_shards_exist(path, shards);
  for (auto& [shard, file] : shards) {
    file = &add_file(std::make_unique<SafetensorsFile>(path.parent_path() / shard));
  }
  for (const auto& [name, value] : weight_map.items()) {
    const auto shard = value.get<std::string>();
    if (!shards[shard]->entries().contains(name)) {
      fail("{}: shard '{}' does not hold tensor '{}'", index_name, shard, name);
    }
    add_entry(name, *shards[shard]);
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const Checkpoint::Entry& Checkpoint::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail_missing(name);
  return found->second;
}

TensorInfo Checkpoint::info(std::string_view name) const {
  const Entry& entry = find(name);
  const std::string file_name = entry.file->path().string();
  const std::optional<DType> dtype =
      entry.stored->dtype_name == kDouble ? DType::kF32 : parse_dtype(entry.stored->dtype_name);
  if (!dtype) {
    fail("tensor '{}' in '{}': cannot work with dtype {}", name, file_name,
         entry.stored->dtype_name);
  }
  const std::vector<std::int64_t>& sizes = entry.stored->sizes;
  if (sizes.size() > Shape::kMaxRank) {
    fail("tensor '{}' in '{}': wanted at most {} dimensions, found {}", name, file_name,
         Shape::kMaxRank, sizes.size());
  }
  return {*dtype, Shape(sizes), file_name};
}

std::vector<StoredRows> Checkpoint::stored_rows(std::string_view name) const {
  const TensorInfo found = info(name);
  const Entry& entry = find(name);
  entry.is_read = true;
  if (entry.stored->dtype_name != kDouble) {
    return {{found.type, found.shape, entry.stored->bytes, nullptr, {}, entry.stored->file}};
  }
  const std::shared_ptr<const Tensor> rounded = round_doubles(entry.stored->bytes, found.shape);
  const TensorView& view = rounded->view();
  return {{DType::kF32, found.shape, {view.bytes(), view.size_bytes()}, rounded}};
}

double Checkpoint::number(std::string_view name) const {
  const Entry& entry = find(name);
  const std::vector<std::int64_t>& sizes = entry.stored->sizes;
  const bool is_one = std::ranges::all_of(sizes, [](std::int64_t size) { return size == 1; });
  const std::optional<double> value =
      is_one ? read_number(entry.stored->dtype_name, entry.stored->bytes) : std::nullopt;
  if (!value) {
    fail("tensor '{}' in '{}': wanted one number, found {} [{}]", name, entry.file->path().string(),
         entry.stored->dtype_name, fmt::join(sizes, ", "));
  }
  entry.is_read = true;
  return *value;
}

std::vector<std::string> Checkpoint::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    if (!entry.is_read) names.push_back(name);
  }
  return names;
}

const StoredEntry& Checkpoint::entry(std::string_view name) const { return *find(name).stored; }

const fs::path& Checkpoint::file_of(std::string_view name) const { return find(name).file->path(); }

std::vector<fs::path> Checkpoint::files() const {
  std::vector<fs::path> paths;
  paths.reserve(files_.size());
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

std::map<std::string, std::string> Checkpoint::metadata() const {
  std::map<std::string, std::string> all;
  for (const auto& file : files_) {
    all.insert(file->metadata().begin(), file->metadata().end());
  }
  return all;
}

}  // namespace mochi
