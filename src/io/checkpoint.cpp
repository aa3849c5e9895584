#include "io/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "io/json.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileEnding = ".safetensors";
constexpr std::string_view kIndexEnding = ".index.json";

// Files of a folder whose names end so, sorted.
std::vector<fs::path> list_files(const fs::path& folder, std::string_view ending) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(ending)) {
      files.push_back(entry.path());
    }
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

}  // namespace

std::shared_ptr<Checkpoint> Checkpoint::open(const fs::path& path) {
  std::error_code ignored;
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
    const SafetensorsFile& file = checkpoint->add_file(path);
    for (const auto& [name, stored] : file.entries()) checkpoint->add_entry(name, file);
  }
  return checkpoint;
}

const SafetensorsFile& Checkpoint::add_file(const fs::path& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
  return *files_.back();
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
  for (const fs::path& file_path : files) {
    const SafetensorsFile& file = add_file(file_path);
    for (const auto& [name, stored] : file.entries()) add_entry(name, file);
  }
}

void Checkpoint::load_index(const fs::path& path) {
  const std::string index_name = path.string();
  const Json index = read_json(path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail("{}: wanted an object with a 'weight_map' object", index_name);
  }
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, value] : index["weight_map"].items()) {
    if (!value.is_string()) fail("{}: weight_map: shard of '{}' is no string", index_name, name);
    const auto shard = value.get<std::string>();
    check_shard_name(shard, index_name);
    const SafetensorsFile*& file = shards[shard];
    if (file == nullptr) {
      const fs::path shard_path = path.parent_path() / shard;
      if (!fs::exists(shard_path)) {
        fail("{}: shard '{}' of tensor '{}' does not exist", index_name, shard, name);
      }
      file = &add_file(shard_path);
    }
    if (!file->entries().contains(name)) {
      fail("{}: shard '{}' does not hold tensor '{}'", index_name, shard, name);
    }
    add_entry(name, *file);
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
  const std::optional<DType> dtype = parse_dtype(entry.stored->dtype_name);
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
  return {{found.dtype, found.shape, entry.stored->bytes}};
}

std::vector<std::string> Checkpoint::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    if (!entry.is_read) names.push_back(name);
  }
  return names;
}

const SafetensorsEntry& Checkpoint::entry(std::string_view name) const {
  return *find(name).stored;
}

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
