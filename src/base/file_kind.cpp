#include "base/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

constexpr std::size_t kMaxHeadBytes = 1024;
constexpr const char* kDownloadAgain = "download the file itself";
constexpr const char* kConvert = "convert it to safetensors first";
constexpr const char* kSaveAsUtf8 = "save it as UTF-8";

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  const char* name;
  const char* remedy = "";
};

// The first match counts.
constexpr std::array kSignatures{
    Signature{0, "GGUF"sv, "a GGUF file"},
    Signature{0, "\x00\x05\x16\x07"sv,
              "an AppleDouble file (what macOS stores about another file)"},
    Signature{0, "\x89HDF\r\n\x1a\n"sv, "an HDF5 file", kConvert},
    Signature{0, "\x93NUMPY"sv, "a NumPy array (.npy)", kConvert},
    Signature{0, "\x80\x02"sv, "a Python pickle, as PyTorch writes it (.pt, .ckpt, .bin)",
              kConvert},
    Signature{0, "\x80\x03"sv, "a Python pickle", kConvert},
    Signature{0, "\x80\x04\x95"sv, "a Python pickle", kConvert},
    Signature{0, "\x80\x05\x95"sv, "a Python pickle", kConvert},
    Signature{0, "\x1f\x8b"sv, "a gzip archive", "unpack it first"},
    Signature{0, "\x28\xb5\x2f\xfd"sv, "a zstd archive", "unpack it first"},
    Signature{0, "\xfd\x37zXZ\x00"sv, "an xz archive", "unpack it first"},
    Signature{0, "BZh"sv, "a bzip2 archive", "unpack it first"},
    Signature{0, "Rar!"sv, "a RAR archive", "unpack it first"},
    Signature{0, "SQLite format 3"sv, "an SQLite database"},
    Signature{0, "\xff\xfe"sv, "a UTF-16 text", kSaveAsUtf8},
    Signature{0, "\xfe\xff"sv, "a UTF-16 text", kSaveAsUtf8},
    Signature{0, "7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive", "unpack it first"},
    Signature{257, "ustar"sv, "a tar archive", "unpack it first"},
    Signature{0, "\x89PNG"sv, "a PNG image"},
    Signature{0, "\xff\xd8\xff"sv, "a JPEG image"},
    Signature{0, "GIF8"sv, "a GIF image"},
    Signature{8, "WEBP"sv, "a WebP image"},
    Signature{0, "%PDF"sv, "a PDF file"},
    Signature{4, "ftyp"sv, kMp4Name},
    Signature{0, "\x1a\x45\xdf\xa3"sv, "a WebM or Matroska file"},
    Signature{0,
              "\x7f"
              "ELF"sv,
              "a program"},
    Signature{0, "version https://git-lfs"sv, "a Git LFS pointer",
              "run 'git lfs pull' in its folder"},
    Signature{0, "version https://hawser"sv, "a Git LFS pointer",
              "run 'git lfs pull' in its folder"},
    Signature{0, "# xet version"sv, "a Xet pointer", kDownloadAgain},
};

bool matches(std::string_view head, const Signature& signature) {
  return head.size() > signature.offset &&
         head.substr(signature.offset).starts_with(signature.bytes);
}

std::optional<FileKind> recognise_zip(std::string_view head) {
  if (!head.starts_with("PK\x03\x04")) return std::nullopt;
  if (head.find("data.pkl") != std::string_view::npos) {
    return FileKind{"a zip archive, as PyTorch writes it (.pt, .ckpt, .bin)", kConvert};
  }
  return FileKind{"a zip archive", "unpack it first"};
}

// The header's length, of which the upper half is zero, then its '{'.
bool is_safetensors(std::string_view head) {
  return head.size() > 8 && head[8] == '{' && head.substr(4, 4) == "\0\0\0\0"sv;
}

bool is_text(std::string_view head) {
  return std::ranges::all_of(head, [](char letter) {
    const auto code = static_cast<unsigned char>(letter);
    constexpr std::string_view kControls = "\a\b\t\n\v\f\r\x1b";  // an escape colours a text
    return code >= 0x20 ? code != 0x7f : kControls.find(letter) != std::string_view::npos;
  });
}

// The beginning of the first line, without what is not ASCII.
std::string excerpt(std::string_view text) {
  constexpr std::size_t kMaxLength = 48;
  std::string line(text.substr(0, std::min(text.find_first_of("\r\n"), kMaxLength)));
  std::erase_if(line, [](char letter) {
    const auto code = static_cast<unsigned char>(letter);
    return code < 0x20 || code >= 0x7f;
  });
  return line;
}

FileKind recognise_text(std::string_view head) {
  const std::size_t begin = std::min(head.find_first_not_of(" \t\r\n"), head.size());
  const std::string_view text = head.substr(begin);
  std::string lower(text.substr(0, 16));
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower.starts_with("<!doctype html") || lower.starts_with("<html")) {
    return {"a web page (HTML)", kDownloadAgain, true};
  }
  if (lower.starts_with("<?xml") || lower.starts_with("<error"))
    return {"an XML text", kDownloadAgain, true};
  if (lower.starts_with("{") || lower.starts_with("[")) return {"a JSON text", "", true};
  return {fmt::format("a text file (\"{}\")", excerpt(text)), "", true};
}

}  // namespace

FileKind recognise_content(std::span<const std::byte> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min(bytes.size(), kMaxHeadBytes));
  if (head.empty()) return {"empty", "", true};
  if (auto kind = recognise_zip(head)) return *kind;
  for (const Signature& signature : kSignatures) {
    if (matches(head, signature)) return {signature.name, signature.remedy};
  }
  if (is_safetensors(head)) return {"a safetensors file", ""};
  if (is_text(head)) return recognise_text(head);
  if (head.find_first_not_of('\0') == std::string_view::npos) {
    return {"a file of zeros", "its download did not finish; download it again"};
  }
  return {"a binary file of an unknown kind", ""};
}

std::string describe_file_kind(const fs::path& path) {
  std::error_code error;
  if (fs::is_symlink(path, error) && !fs::exists(path, error)) {
    return fmt::format("a link to '{}', which does not exist",
                       fs::read_symlink(path, error).string());
  }
  if (fs::is_directory(path, error)) return "a folder";
  if (!fs::exists(path, error)) return "missing";
  if (!fs::is_regular_file(path, error)) return "neither a file nor a folder";
  try {
    return recognise_content(MappedFile(path).bytes()).name;
  } catch (const Error&) {
    return "a file that cannot be read";
  }
}

void check_text(const fs::path& path, std::string_view text, const std::string& wanted) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  const FileKind kind = recognise_content(bytes);
  if (!kind.is_text || !kind.remedy.empty()) fail_wrong_kind(path, bytes, wanted);
}

void fail_wrong_kind(const fs::path& path, std::span<const std::byte> bytes,
                     const std::string& wanted) {
  const FileKind kind = recognise_content(bytes);
  fail("'{}' is {}, not {}{}{}", path.string(), kind.name, wanted, kind.remedy.empty() ? "" : ": ",
       kind.remedy);
}

}  // namespace mochi
