// Any text from a server or from a download's folder. The first letter chooses what it is: 'l' a
// page of the hub's list of files, 'j' a journal, 'h' lines of a response's headers.
#include <algorithm>
#include <string>
#include <vector>

#include "fuzz_support.h"
#include "hub/http.h"
#include "hub/listing.h"
#include "hub/part_file.h"

namespace mochi {
namespace {

void use_list(std::string_view text) {
  std::vector<hub::RemoteFile> files;
  if (!expect_result_or_error([&] { files = hub::parse_listing(text, "list"); })) return;
  for (const hub::RemoteFile& file : files) {
    require(!file.path.empty() && !file.path.starts_with('/'));
    const std::string framed = "/" + file.path + "/";
    require(framed.find("/../") == std::string::npos && framed.find("/./") == std::string::npos);
    require(framed.find('\0') == std::string::npos && framed.find("//") == std::string::npos);
  }
  expect_result_or_error([&] { hub::check_names(files, "list"); });
  expect_result_or_error([&] { hub::select_files(files, {"*.[jJ]son", "vae/"}, "list"); });
}

void use_journal(std::string_view text) {
  hub::Journal journal;
  if (!expect_result_or_error([&] { journal = hub::parse_journal(text, "journal"); })) return;
  require(journal.done.num_bytes() <= journal.size);
  require(journal.done.prefix_end() <= journal.done.num_bytes());
  const hub::Journal again = hub::parse_journal(hub::format_journal(journal), "again");
  require(again.size == journal.size && again.etag == journal.etag);
  require(again.done.ranges() == journal.done.ranges());
  std::uint64_t num_missing = 0;
  for (const hub::ByteRange& gap : journal.done.gaps(journal.size)) num_missing += gap.size();
  require(num_missing + journal.done.num_bytes() == journal.size);
}

void use_headers(std::string_view text) {
  hub::Headers headers;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    headers.add_line(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  hub::parse_retry_after(headers.find("retry-after"));
  hub::parse_next_link(headers.find("link"));
  const auto range = hub::parse_content_range(headers.find("content-range"));
  require(!range || range->begin < range->end);
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  const std::string_view text = as_text(bytes);
  if (text.empty()) return -1;
  switch (text.front()) {
    case 'l':
      use_list(text.substr(1));
      return 0;
    case 'j':
      use_journal(text.substr(1));
      return 0;
    case 'h':
      use_headers(text.substr(1));
      return 0;
    default:
      return -1;
  }
}

}  // namespace mochi
