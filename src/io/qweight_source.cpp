#include "io/qweight_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"

namespace mochi {
namespace {

constexpr std::string_view kQweightEnding = "_qweight";

// Returns the format that a name ends with; nothing for other names.
std::optional<BlockFormat> format_of(std::string_view name) {
  if (!name.ends_with(kQweightEnding)) return std::nullopt;
  name.remove_suffix(kQweightEnding.size());
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  return parse_block_format(name.substr(dot + 1));
}

}  // namespace

QweightSource::QweightSource(std::shared_ptr<const StoredSource> source)
    : source_(std::move(source)) {
  for (const std::string& name : source_->names()) {
    if (const auto format = format_of(name)) add(name, *format);
  }
}

void QweightSource::set_rows(const std::string& stored_name, StoredEntry& entry) const {
  const std::string bias = stored_name.substr(0, stored_name.rfind('.')) + ".bias";
  const std::int64_t num_rows =
      source_->contains(bias) ? source_->info(bias).shape.num_elements() : 0;
  if (num_rows == 0 || entry.sizes[0] % num_rows != 0) {
    fail(
        "tensor '{}' in '{}': wanted [rows, bytes of a row], found [{}], and no '{}' shows the "
        "number of rows",
        stored_name, source_->file_of(stored_name).string(), entry.sizes[0], bias);
  }
  entry.sizes = {num_rows, entry.sizes[0] / num_rows};
}

void QweightSource::add(const std::string& stored_name, BlockFormat format) {
  const std::string name = stored_name.substr(0, stored_name.rfind('.')) + ".weight";
  StoredEntry entry = source_->entry(stored_name);
  if (entry.sizes.size() == 1) set_rows(stored_name, entry);
  const auto block_bytes = static_cast<std::int64_t>(bytes_per_block(format));
  if (entry.dtype_name != "U8" || entry.sizes.size() != 2 || entry.sizes[1] % block_bytes != 0) {
    fail("tensor '{}' in '{}': wanted rows of U8 whose length is a multiple of {}, found {} [{}]",
         stored_name, source_->file_of(stored_name).string(), block_bytes, entry.dtype_name,
         fmt::join(entry.sizes, ", "));
  }
  entry.dtype_name = block_format_name(format);
  entry.sizes[1] =
      entry.sizes[1] / block_bytes * static_cast<std::int64_t>(elements_per_block(format));
  const bool is_new = qweights_.emplace(name, Qweight{stored_name, format, entry}).second;
  if (!is_new || source_->contains(name)) {
    fail("tensor '{}' in '{}': the file holds '{}' twice", stored_name,
         source_->file_of(stored_name).string(), name);
  }
}

std::vector<std::string> QweightSource::names() const {
  std::vector<std::string> names = source_->names();
  std::erase_if(names, [](const std::string& name) { return format_of(name).has_value(); });
  for (const auto& [name, qweight] : qweights_) names.push_back(name);
  std::ranges::sort(names);
  return names;
}

bool QweightSource::contains(std::string_view name) const {
  return qweights_.contains(name) || (source_->contains(name) && !format_of(name));
}

TensorInfo QweightSource::info(std::string_view name) const {
  const auto found = qweights_.find(name);
  if (found == qweights_.end()) return source_->info(name);
  return {found->second.format, Shape(found->second.entry.sizes), file_of(name).string()};
}

std::vector<StoredRows> QweightSource::stored_rows(std::string_view name) const {
  const auto found = qweights_.find(name);
  if (found == qweights_.end()) return source_->stored_rows(name);
  const Qweight& qweight = found->second;
  source_->stored_rows(qweight.stored_name);  // counts as reading it
  return {{qweight.format,
           Shape(qweight.entry.sizes),
           qweight.entry.bytes,
           nullptr,
           {},
           qweight.entry.file}};
}

const StoredEntry& QweightSource::entry(std::string_view name) const {
  const auto found = qweights_.find(name);
  return found == qweights_.end() ? source_->entry(name) : found->second.entry;
}

const std::filesystem::path& QweightSource::file_of(std::string_view name) const {
  const auto found = qweights_.find(name);
  return source_->file_of(found == qweights_.end() ? name : found->second.stored_name);
}

std::shared_ptr<StoredSource> with_qweights(std::shared_ptr<StoredSource> source) {
  const std::vector<std::string> names = source->names();
  const bool has_some = std::ranges::any_of(
      names, [](const std::string& name) { return format_of(name).has_value(); });
  if (!has_some) return source;
  return std::make_shared<QweightSource>(std::move(source));
}

}  // namespace mochi
