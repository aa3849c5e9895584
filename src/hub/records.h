// The files that a folder has completely, with their checksums, in .mochi-download/files.json: they
// need not be read again to know that they are what they should be.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace mochi::hub {

struct Record {
  std::uint64_t size = 0;
  std::string sha256;
  std::int64_t modified_ns = 0;  // since 1970

  bool operator==(const Record&) const = default;
};

class Records {
 public:
  // Reads the records of a folder: none if there are none or if they cannot be read.
  explicit Records(std::filesystem::path folder);

  // Returns the checksum of a file that has not been changed since it was recorded; empty for
  // others.
  std::string sha256_of(const std::string& target) const;
  // Records `file`, which is or becomes the file `target`.
  void add(const std::string& target, const std::filesystem::path& file, const std::string& sha256);

 private:
  std::filesystem::path folder_;
  std::map<std::string, Record> records_;
};

}  // namespace mochi::hub
