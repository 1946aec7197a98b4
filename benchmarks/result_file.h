// What growth and tails tell: a figure, and the file of all figures of a run,
// in the form that result.md describes.
//
// Threads: values; the functions may be called in any thread.
#ifndef BENCHMARKS_RESULT_FILE_H_
#define BENCHMARKS_RESULT_FILE_H_

#include <string>
#include <utility>
#include <vector>

namespace benchmarks {

// One figure. What is 0 or empty is left out of the file, but for the value.
struct Figure {
  std::string suite = {};
  std::string work = {};
  std::string way = {};
  std::string placement = {};
  std::string x_name = {};
  double x = 0;
  std::string measure = {};
  std::string unit = {};
  double value = 0;
  double raw = 0;  // the same figure of plain POSIX
  double target = 0;
  int target_number = 0;
  bool is_pass = true;  // for the verdict, if there is a target
  // Of single operations: 0.99 and the value there.
  std::vector<std::pair<double, double>> quantiles = {};
  std::vector<std::pair<double, double>> raw_quantiles = {};
};

// Throws std::runtime_error if the file cannot be written.
void write_result_file(const std::string& path, const std::string& program,
                       const std::vector<std::string>& command,
                       const std::vector<Figure>& figures);

}  // namespace benchmarks

#endif  // BENCHMARKS_RESULT_FILE_H_
