#include "pipeline/model_candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/gguf_source.h"
#include "io/json.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 2> kFileEndings{".safetensors", kGgufEnding};
constexpr std::string_view kIndexEnding = ".index.json";
// Endings that programs append to the name of a file while they download it.
constexpr std::array<std::string_view, 6> kPartEndings{".part",       ".incomplete", ".aria2",
                                                       ".crdownload", ".download",   ".tmp"};

// Folders of diffusers' layout inside a model folder.
constexpr std::array<std::string_view, 3> kSubfolders{"text_encoder", "transformer", "vae"};

// Folders of ComfyUI that only ComfyUI has, and where they are in a model folder: ComfyUI's own
// folder has them below `models`, and its repository of Mochi below `split_files`.
constexpr std::array<std::string_view, 6> kSharedFolders{
    "diffusion_models", "unet", "text_encoders", "clip", "checkpoints", "all_in_one"};
constexpr std::array<std::string_view, 3> kSharedPlaces{"", "models", "split_files"};
// Depth of folders that users make inside those.
constexpr int kMaxDepth = 2;

// Names of the files an index leads to. What is wrong with it is reported when it is opened.
std::set<std::string> shards_of_index(const fs::path& index_path) {
  std::set<std::string> shards;
  try {
    const Json index = read_json(index_path);
    if (!index.is_object() || !index.contains("weight_map")) return shards;
    for (const auto& [name, shard] : index["weight_map"].items()) {
      if (shard.is_string()) shards.insert(shard.get<std::string>());
    }
  } catch (const Error&) {
    shards.clear();
  }
  return shards;
}

bool is_weights_name(const std::string& name) {
  return std::ranges::any_of(kFileEndings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

// "dit.safetensors.part"
bool is_partial_download(const std::string& name) {
  return weights_stem(name) != name &&
         std::ranges::any_of(kPartEndings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

// The files of a folder, sorted into what they may be.
struct Listing {
  std::vector<fs::path> files;    // *.safetensors, *.gguf
  std::vector<fs::path> indices;  // *.index.json
  std::vector<Candidate> broken;  // dangling links, partial downloads
};

Listing list_folder(const fs::path& folder) {
  Listing listing;
  std::error_code error;
  const fs::directory_iterator entries(folder, error);
  if (error) fail("cannot read folder '{}': {}", folder.string(), describe_errno(error.value()));
  for (const fs::directory_entry& entry : entries) {
    const fs::path& path = entry.path();
    const std::string name = path.filename().string();
    if (name.starts_with('.')) continue;
    std::error_code ignored;
    if (is_partial_download(name)) {
      listing.broken.push_back(
          {.path = path,
           .problem = fmt::format("'{}' is a download that did not finish", path.string()),
           .is_partial = true});
    } else if (!is_weights_name(name) && !name.ends_with(kIndexEnding)) {
      continue;
    } else if (!entry.exists(ignored)) {
      listing.broken.push_back(
          {.path = path,
           .problem = fmt::format("'{}' is {}", path.string(), describe_file_kind(path))});
    } else if (entry.is_directory(ignored)) {
      listing.broken.push_back(
          {.path = path, .problem = fmt::format("'{}' is a folder, not a file", path.string())});
    } else if (entry.is_regular_file(ignored)) {
      (is_weights_name(name) ? listing.files : listing.indices).push_back(path);
    }
  }
  std::ranges::sort(listing.files);
  return listing;
}

bool lacks_shards(const Candidate& candidate) {
  if (!candidate.shards.empty()) return candidate.num_shards != candidate.shards.size();
  if (!candidate.path.string().ends_with(kIndexEnding)) return false;
  return std::ranges::any_of(shards_of_index(candidate.path), [&](const std::string& shard) {
    std::error_code ignored;
    return !fs::exists(candidate.path.parent_path() / shard, ignored);
  });
}

void open(Candidate& candidate) {
  candidate.is_partial = lacks_shards(candidate);
  try {
    const std::vector<fs::path>& shards = candidate.shards;
    if (candidate.is_partial && !shards.empty()) {
      fail("'{}' is one of {} shards, and there are {} of them", candidate.path.string(),
           candidate.num_shards, shards.size());
    }
    // A part of a split GGUF file names the others.
    const bool is_one = shards.empty() || is_gguf(shards.front());
    candidate.file = is_one ? open_weights(candidate.path) : Checkpoint::open_files(shards);
  } catch (const Error& error) {
    candidate.problem = error.what();
  }
}

std::vector<Candidate> find_in_folder(const fs::path& folder) {
  Listing listing = list_folder(folder);
  std::vector<Candidate> candidates = std::move(listing.broken);
  std::set<std::string> indexed;
  for (const fs::path& index : listing.indices) {
    candidates.push_back({.path = index});
    indexed.merge(shards_of_index(index));
  }
  std::map<std::string, Candidate> sharded;
  for (const fs::path& file : listing.files) {
    if (indexed.contains(file.filename().string())) continue;
    if (const auto shard = parse_shard(file)) {
      Candidate& candidate = sharded[shard->stem + file.extension().string()];
      if (candidate.shards.empty()) candidate.path = file;
      candidate.num_shards = shard->count;
      candidate.shards.push_back(file);
    } else {
      candidates.push_back({.path = file});
    }
  }
  for (auto& [stem, candidate] : sharded) candidates.push_back(std::move(candidate));
  std::ranges::sort(candidates, {}, &Candidate::path);
  for (Candidate& candidate : candidates) {
    if (candidate.problem.empty()) open(candidate);
  }
  return candidates;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

void append(std::vector<Candidate> more, std::vector<Candidate>& candidates) {
  std::ranges::move(more, std::back_inserter(candidates));
}

// Adds the files of a folder of ComfyUI's and of the folders in it. A folder that cannot be read is
// passed over.
void add_shared_folder(const fs::path& folder, int depth, std::vector<Candidate>& candidates) {
  if (!is_folder(folder)) return;
  std::vector<fs::path> folders;
  try {
    std::vector<Candidate> found = find_in_folder(folder);
    for (Candidate& candidate : found) candidate.is_shared = true;
    append(std::move(found), candidates);
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      const bool is_hidden = entry.path().filename().string().starts_with('.');
      if (!is_hidden && is_folder(entry.path())) folders.push_back(entry.path());
    }
  } catch (const std::exception& error) {
    candidates.push_back({.path = folder, .problem = error.what(), .is_shared = true});
  }
  if (depth == kMaxDepth) return;
  std::ranges::sort(folders);
  for (const fs::path& inner : folders) add_shared_folder(inner, depth + 1, candidates);
}

}  // namespace

std::optional<ShardName> parse_shard(const fs::path& path) {
  const std::string stem = path.stem().string();
  const std::size_t of = stem.rfind("-of-");
  const std::size_t dash = of == std::string::npos || of == 0 ? of : stem.rfind('-', of - 1);
  if (of == std::string::npos || dash == std::string::npos) return std::nullopt;
  const std::string count = stem.substr(of + 4);
  const std::string digits = stem.substr(dash + 1, of - dash - 1) + count;
  constexpr std::size_t kMaxDigits = 9;
  if (digits.find_first_not_of("0123456789") != std::string::npos || count.empty() ||
      count.size() > kMaxDigits) {
    return std::nullopt;
  }
  return ShardName{stem.substr(0, dash), static_cast<std::size_t>(std::stoul(count))};
}

std::string weights_stem(const std::string& name) {
  std::size_t end = name.size();
  for (const std::string_view ending : kFileEndings) end = std::min(end, name.find(ending));
  return name.substr(0, end);
}

fs::path model_folder_of(const fs::path& path) {
  if (path.empty()) return path;
  fs::path folder = fs::absolute(path).lexically_normal();
  if (!is_folder(folder)) folder = folder.parent_path();
  const std::string name = folder.filename().string();
  const bool is_inner = std::ranges::find(kSubfolders, name) != kSubfolders.end() ||
                        std::ranges::find(kSharedFolders, name) != kSharedFolders.end();
  return is_inner ? folder.parent_path() : folder;
}

std::vector<Candidate> find_candidates(const fs::path& model_folder) {
  std::vector<Candidate> candidates = find_in_folder(model_folder);
  bool has_shared_vae = false;
  for (const std::string_view place : kSharedPlaces) {
    const fs::path base = model_folder / place;
    const bool is_shared = std::ranges::any_of(
        kSharedFolders, [&](std::string_view name) { return is_folder(base / name); });
    if (!is_shared) continue;
    has_shared_vae = has_shared_vae || place.empty();
    for (const std::string_view name : kSharedFolders) {
      add_shared_folder(base / name, 0, candidates);
    }
    add_shared_folder(base / "vae", 0, candidates);
  }
  for (const std::string_view name : kSubfolders) {
    const bool is_done = has_shared_vae && name == "vae";
    if (!is_done && is_folder(model_folder / name)) {
      append(find_in_folder(model_folder / name), candidates);
    }
  }
  return candidates;
}

std::vector<Candidate> find_candidates_at(const fs::path& path) {
  if (is_folder(path)) return find_candidates(path);
  Candidate candidate{.path = path};
  open(candidate);
  return {std::move(candidate)};
}

}  // namespace mochi
