#include "benchmarks/result_file.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <time.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace benchmarks {
namespace {

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < ' ') continue;
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

// Collects the members of one JSON object.
class Object {
 public:
  void add(std::string_view name, const std::string& json) {
    text_ +=
        fmt::format("{}{}: {}", text_.empty() ? "" : ", ", quoted(name), json);
  }
  void add_text(std::string_view name, std::string_view text) {
    if (!text.empty()) add(name, quoted(text));
  }
  void add_number(std::string_view name, double number) {
    add(name, fmt::format("{}", number));
  }
  void add_quantiles(std::string_view name,
                     const std::vector<std::pair<double, double>>& quantiles) {
    if (quantiles.empty()) return;
    Object members;
    for (const auto& [share, value] : quantiles) {
      members.add_number(fmt::format("{}", share), value);
    }
    add(name, members.text());
  }
  std::string text() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::string now() {
  const std::time_t time = ::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  const std::size_t size =
      std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text.data(), size};
}

std::string machine() {
  utsname system{};
  ::uname(&system);
  Object object;
  object.add_text("cpu", processor());
  object.add_number("cpus", std::thread::hardware_concurrency());
  object.add_text("kernel", system.release);
#if defined(__clang__)
  object.add_text("compiler", __VERSION__);
#else
  object.add_text("compiler", "g++ " __VERSION__);
#endif
  object.add_text("date", now());
  object.add_text("congestion_control",
                  first_line("/proc/sys/net/ipv4/tcp_congestion_control"));
  return object.text();
}

std::string row(const Figure& figure) {
  Object object;
  object.add_text("suite", figure.suite);
  object.add_text("work", figure.work);
  object.add_text("way", figure.way);
  object.add_text("placement", figure.placement);
  if (!figure.x_name.empty()) {
    object.add_number("x", figure.x);
    object.add_text("x_name", figure.x_name);
  }
  object.add_text("measure", figure.measure);
  object.add_text("unit", figure.unit);
  object.add_text("better", figure.unit == "1/s" ? "more" : "less");
  object.add_number("value", figure.value);
  if (figure.raw > 0) {
    object.add("raw", fmt::format("[{}]", figure.raw));
    object.add_number("ratio", figure.value / figure.raw);
  }
  if (figure.target > 0) {
    object.add_number("target", figure.target);
    object.add_number("target_number", figure.target_number);
    object.add_text("verdict", figure.is_pass ? "pass" : "short");
  }
  object.add_quantiles("quantiles", figure.quantiles);
  object.add_quantiles("raw_quantiles", figure.raw_quantiles);
  return object.text();
}

std::string list(const std::vector<std::string>& items, const char* separator) {
  return fmt::format("[{}]", fmt::join(items, separator));
}

}  // namespace

void write_result_file(const std::string& path, const std::string& program,
                       const std::vector<std::string>& command,
                       const std::vector<Figure>& figures) {
  std::vector<std::string> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(quoted(argument));
  }
  std::vector<std::string> rows;
  for (const Figure& figure : figures) rows.push_back(row(figure));
  Object object;
  object.add("schema", "1");
  object.add_text("program", program);
  object.add("command", list(arguments, ", "));
  object.add("machine", machine());
  object.add("warnings", "[]");
  object.add("rows", list(rows, ",\n"));
  std::ofstream file(path);
  file << object.text() << '\n';
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace benchmarks
