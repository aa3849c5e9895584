#include "report/html_page.h"

#include <fmt/core.h>

#include <string_view>
#include <utility>

#include "report/markup.h"

namespace mochi::report {
namespace {

// Without '<' and '&', which XML would take for its own.
constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1f2328; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --ink: #e6edf3; --line: #3d444d; }
}
body { background: var(--ground); color: var(--ink); margin: 2rem auto; padding: 0 1rem;
  max-width: 62rem; font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.25; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: 0.3rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.75rem; text-align: left;
  vertical-align: top; overflow-wrap: break-word; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; }
.images { display: flex; gap: 4px; }
.images img { flex: 1 1 0; min-width: 0; max-width: 20rem; }
)";

std::string make_row(const char* tag, const std::vector<std::string>& cells) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) {
    row += fmt::format("<{0}>{1}</{0}>", tag, escape_markup(cell));
  }
  return row + "</tr>\n";
}

}  // namespace

HtmlPage::HtmlPage(std::string title) : title_(std::move(title)) {}

void HtmlPage::add_heading(const std::string& text) {
  body_ += fmt::format("<h2>{}</h2>\n", escape_markup(text));
}

void HtmlPage::add_text(const std::string& text) {
  body_ += fmt::format("<p>{}</p>\n", escape_markup(text));
}

void HtmlPage::add_table(const std::vector<std::string>& headers,
                         const std::vector<std::vector<std::string>>& rows) {
  body_ += "<figure><table>\n<thead>" + make_row("th", headers) + "</thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : rows) body_ += make_row("td", row);
  body_ += "</tbody>\n</table></figure>\n";
}

void HtmlPage::add_svg(const std::string& svg) {
  body_ += fmt::format("<figure>\n{}</figure>\n", svg);
}

void HtmlPage::add_image_row(const std::string& caption, const std::vector<std::string>& pngs) {
  const std::string text = escape_markup(caption);
  body_ += fmt::format("<figure>\n<figcaption>{}</figcaption>\n<div class=\"images\">\n", text);
  for (const std::string& png : pngs) {
    body_ += fmt::format("<img alt=\"{}\" src=\"data:image/png;base64,{}\"/>\n", text,
                         encode_base64(png));
  }
  body_ += "</div>\n</figure>\n";
}

std::string HtmlPage::finish() const {
  const std::string title = escape_markup(title_);
  return fmt::format(
      "<!DOCTYPE html>\n"
      "<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
      "<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n"
      "</html>\n",
      title, kStyle, body_);
}

}  // namespace mochi::report
