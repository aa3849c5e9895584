#include "hub/listing.h"

#include <fnmatch.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "hub/part_file.h"
#include "hub/sha256.h"
#include "io/json.h"

namespace mochi::hub {
namespace {

// Files that are larger are no files: this is more than any disk holds.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 53;
constexpr std::size_t kLongestName = 255 - kLongestSuffix;
constexpr std::size_t kLongestPath = 1024;

bool is_control(char letter) {
  const auto code = static_cast<unsigned char>(letter);
  return code < 0x20 || code == 0x7f;
}

// Returns what is wrong with a part of a path; null if nothing is.
const char* problem_of_name(std::string_view name) {
  if (name.empty()) return "it has an empty part";
  if (name == "." || name == "..") return "it leads out of its folder";
  if (name == kStateFolder) return "the name is taken by this program";
  if (name.size() > kLongestName) return "it is too long";
  return nullptr;
}

const char* problem_of_path(std::string_view path) {
  if (path.empty()) return "it is empty";
  if (path.starts_with('/')) return "it is absolute";
  if (path.size() > kLongestPath) return "it is too long";
  if (path.find('\\') != std::string_view::npos) return "it has a backslash";
  if (std::ranges::any_of(path, is_control)) return "it has control characters";
  if (find_invalid_utf8(path)) return "it is not UTF-8";
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (const char* problem = problem_of_name(path.substr(begin, end - begin))) return problem;
    begin = end + 1;
  }
  return nullptr;
}

std::uint64_t read_size(JsonReader& entry) {
  const std::int64_t size = entry.require_int("size");
  if (size < 0 || static_cast<std::uint64_t>(size) > kMostBytes) {
    fail("{}: wanted a number of bytes from 0 to {}, found {}", entry.locate("size"), kMostBytes,
         size);
  }
  return static_cast<std::uint64_t>(size);
}

std::string read_sha256(JsonReader& entry) {
  const Json* lfs = entry.get_json("lfs");
  if (lfs == nullptr || lfs->is_null()) return "";
  JsonReader reader(*lfs, entry.locate("lfs"));
  std::string sha256 = reader.require_string("oid");
  if (!is_sha256(sha256)) {
    fail("{}: wanted 64 hexadecimal digits, found '{}'", reader.locate("oid"), sha256);
  }
  if (read_size(reader) != read_size(entry)) {
    fail("{}: differs from the file's size", reader.locate("size"));
  }
  return sha256;
}

bool matches(const std::string& pattern, const std::string& path) {
  const std::string whole = pattern.ends_with('/') ? pattern + "*" : pattern;
  return ::fnmatch(whole.c_str(), path.c_str(), 0) == 0;
}

}  // namespace

void check_remote_path(std::string_view path, const std::string& source) {
  if (const char* problem = problem_of_path(path)) {
    fail("{}: the file name '{}' is refused: {}", source, path, problem);
  }
}

void check_names(const std::vector<RemoteFile>& files, const std::string& source) {
  std::set<std::string> names;
  for (const RemoteFile& file : files) {
    if (!names.insert(file.path).second) fail("{}: '{}' is listed twice", source, file.path);
  }
  for (const RemoteFile& file : files) {
    for (const std::string& name :
         {part_path(file.path).string(), journal_path(file.path).string()}) {
      if (names.contains(name)) {
        fail("{}: '{}' has a name that the download of '{}' needs", source, name, file.path);
      }
    }
  }
}

std::vector<RemoteFile> parse_listing(std::string_view text, const std::string& source) {
  const Json list = parse_json(text, source);
  if (!list.is_array()) fail("{}: wanted a list of files", source);
  std::vector<RemoteFile> files;
  for (const Json& item : list) {
    JsonReader entry(item, source, fmt::format("[{}]", &item - &list.front()));
    if (entry.require_string("type") != "file") continue;
    RemoteFile file{entry.require_string("path"), read_size(entry), read_sha256(entry)};
    check_remote_path(file.path, source);
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<RemoteFile> select_files(const std::vector<RemoteFile>& files,
                                     const std::vector<std::string>& patterns,
                                     const std::string& source) {
  if (patterns.empty()) return files;
  for (const std::string& pattern : patterns) {
    const bool is_used = std::ranges::any_of(
        files, [&](const RemoteFile& file) { return matches(pattern, file.path); });
    if (!is_used) fail("{}: no file matches '{}'", source, pattern);
  }
  std::vector<RemoteFile> selected;
  std::ranges::copy_if(files, std::back_inserter(selected), [&](const RemoteFile& file) {
    return std::ranges::any_of(
        patterns, [&](const std::string& pattern) { return matches(pattern, file.path); });
  });
  return selected;
}

}  // namespace mochi::hub
