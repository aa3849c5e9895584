#include "hub/records.h"

#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "hub/part_file.h"
#include "io/json.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

fs::path records_path(const fs::path& folder) { return folder / kStateFolder / "files.json"; }

std::optional<Record> describe_file(const fs::path& file) {
  struct stat facts{};
  if (::stat(file.c_str(), &facts) != 0) return std::nullopt;
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  return Record{static_cast<std::uint64_t>(facts.st_size), "",
                facts.st_mtim.tv_sec * kNsPerSecond + facts.st_mtim.tv_nsec};
}

std::map<std::string, Record> parse_records(const Json& json, const std::string& source) {
  std::map<std::string, Record> records;
  if (!json.is_object()) fail("{}: wanted an object", source);
  for (const auto& [target, value] : json.items()) {
    JsonReader reader(value, source, target);
    records[target] = {reader.get_uint("size", 0), reader.require_string("sha256"),
                       reader.require_int("modified_ns")};
  }
  return records;
}

}  // namespace

Records::Records(fs::path folder) : folder_(std::move(folder)) {
  const fs::path path = records_path(folder_);
  try {
    std::error_code ignored;
    if (fs::exists(path, ignored)) records_ = parse_records(read_json(path), path.string());
  } catch (const Error&) {  // the files are verified by reading them
    records_.clear();
  }
}

std::string Records::sha256_of(const std::string& target) const {
  const auto found = records_.find(target);
  std::optional<Record> facts = describe_file(folder_ / target);
  if (found == records_.end() || !facts) return "";
  facts->sha256 = found->second.sha256;
  return *facts == found->second ? found->second.sha256 : "";
}

void Records::add(const std::string& target, const fs::path& file, const std::string& sha256) {
  std::optional<Record> record = describe_file(file);
  if (!record) fail("cannot read '{}': {}", file.string(), describe_errno(errno));
  record->sha256 = sha256;
  records_[target] = *record;
  Json json = Json::object();
  for (const auto& [name, known] : records_) {
    json[name] = {
        {"size", known.size}, {"sha256", known.sha256}, {"modified_ns", known.modified_ns}};
  }
  write_file_atomically(records_path(folder_), json.dump(2) + "\n");
}

}  // namespace mochi::hub
