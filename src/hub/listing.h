// The files of a repository, as the hub lists them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mochi::hub {

struct RemoteFile {
  std::string path;  // inside the repository, safe to create below a folder
  std::uint64_t size = 0;
  std::string sha256 = "";  // empty: the hub does not state it, as for small text files

  bool operator==(const RemoteFile&) const = default;
};

// Throws Error that shows the name if it cannot safely become a file below a folder: absolute, with
// a part "." or "..", with a backslash or control characters, hidden state of this program.
void check_remote_path(std::string_view path, const std::string& source);

// Reads the JSON of one page of the hub's list; `source` names it in messages. Folders are left
// out. Throws Error for anything that is no such list.
std::vector<RemoteFile> parse_listing(std::string_view text, const std::string& source);

// Throws Error if two files have one name, or if one has a name that another one's download needs.
void check_names(const std::vector<RemoteFile>& files, const std::string& source);

// Returns the files that match one of the patterns, all of them without a pattern. In a pattern
// '*' stands for any letters, '/' among them, '?' for one letter, [ab] for one of these; "vae/"
// stands for everything in the folder. Throws Error that names a pattern that matches no file.
std::vector<RemoteFile> select_files(const std::vector<RemoteFile>& files,
                                     const std::vector<std::string>& patterns,
                                     const std::string& source);

}  // namespace mochi::hub
