#include "io/gguf_parts.h"

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/printable.h"
#include "io/gguf_source.h"
#include "io/joined_source.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// Keys of the metadata: the part's number, from 0, the number of parts, and the number of tensors
// in all of them.
constexpr const char* kNumberKey = "split.no";
constexpr const char* kCountKey = "split.count";
constexpr const char* kTensorsKey = "split.tensors.count";
constexpr const char* kMergeHint = "`llama-gguf-split --merge` makes one file of all parts";

std::uint64_t read_count(const GgufFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  const std::string text = found == file.metadata().end() ? "nothing" : found->second;
  const char* const end = text.data() + text.size();
  std::uint64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) {
    fail("{}: {}: wanted a count, found {}", file.path().string(), key, printable(text));
  }
  return value;
}

// Returns "-00002-of-00003.gguf" for number 1.
std::string ending_of(std::uint64_t number, std::uint64_t count) {
  return fmt::format("-{:05}-of-{:05}{}", number + 1, count, kGgufEnding);
}

// Returns the path of all parts up to the part's number.
std::string stem_of(const fs::path& path, const GgufSplit& split) {
  const std::string name = path.string();
  const std::string ending = ending_of(split.number, split.count);
  if (split.number >= split.count || !name.ends_with(ending)) {
    fail(
        "'{}' is part {} of a GGUF file that was split into {}: wanted a name that ends in '{}'; "
        "{}",
        name, split.number + 1, split.count, ending, kMergeHint);
  }
  return name.substr(0, name.size() - ending.size());
}

void check_part(const GgufFile& part, const GgufSplit& wanted, const fs::path& opened) {
  const std::optional<GgufSplit> found = read_gguf_split(part);
  if (found && found->number == wanted.number && found->count == wanted.count &&
      found->num_tensors == wanted.num_tensors) {
    return;
  }
  const std::string description =
      found ? fmt::format("part {} of {} with {} tensors", found->number + 1, found->count,
                          found->num_tensors)
            : "a file that was not split";
  fail("{}: wanted part {} of {} with {} tensors, to which '{}' belongs, found {}",
       part.path().string(), wanted.number + 1, wanted.count, wanted.num_tensors, opened.string(),
       description);
}

// Opens the parts of a file, of which `opened` is one.
std::vector<std::unique_ptr<const GgufFile>> open_parts(const GgufFile& opened, GgufSplit split) {
  const std::string stem = stem_of(opened.path(), split);
  std::vector<std::unique_ptr<const GgufFile>> parts;
  for (std::uint64_t number = 0; number < split.count; ++number) {
    const fs::path path = stem + ending_of(number, split.count);
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      fail("'{}' is part {} of a GGUF file that was split into {}, and part {} is missing: '{}'",
           opened.path().string(), split.number + 1, split.count, number + 1, path.string());
    }
    const GgufFile* const first_part = parts.empty() ? nullptr : parts.front().get();
    parts.push_back(std::make_unique<GgufFile>(path, first_part));
    check_part(*parts.back(), {number, split.count, split.num_tensors}, opened.path());
  }
  return parts;
}

}  // namespace

std::optional<GgufSplit> read_gguf_split(const GgufFile& file) {
  if (!file.metadata().contains(kCountKey)) return std::nullopt;
  const std::uint64_t count = read_count(file, kCountKey);
  if (count < 2) return std::nullopt;
  return GgufSplit{read_count(file, kNumberKey), count, read_count(file, kTensorsKey)};
}

std::shared_ptr<StoredSource> open_gguf(const fs::path& path) {
  auto file = std::make_unique<const GgufFile>(path);
  const std::optional<GgufSplit> split = read_gguf_split(*file);
  if (!split) return std::make_shared<GgufSource>(std::move(file));
  std::vector<std::shared_ptr<StoredSource>> sources;
  for (auto& part : open_parts(*file, *split)) {
    sources.push_back(std::make_shared<GgufSource>(std::move(part)));
  }
  const auto joined = std::make_shared<JoinedSource>(std::move(sources));
  if (const std::size_t num_tensors = joined->names().size(); num_tensors != split->num_tensors) {
    fail("'{}' and the other parts of its file: wanted {} tensors ({}), found {}", path.string(),
         split->num_tensors, kTensorsKey, num_tensors);
  }
  return joined;
}

}  // namespace mochi
