// tcpip-monitor as a whole: in pseudo terminals and pipes, with asyncio for
// peers. monitor_peer.py has the cases.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/hang_guard.h"
#include "tests/support/sanitizers.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

std::string script() { return find_file("tests/tools/monitor_peer.py"); }

class MonitorProgram : public testing::TestWithParam<const char*> {
 protected:
  // One interpreter for all cases: it takes longer to start than a case takes.
  static void SetUpTestSuite() {
    std::vector<std::string> command = {
        "python3",
        "-B",
        "-X",
        "utf8",
        script(),
        find_file("tools/tcpip-monitor"),
        find_file("tools/tcpip-monitor-without-libedit"),
        find_file("examples/echo_server")};
    if (kWithSanitizer) command.emplace_back("--sanitizer");
    peer_ = std::make_unique<Subprocess>(std::move(command));
  }
  static void TearDownTestSuite() { peer_ = nullptr; }

  static std::unique_ptr<Subprocess> peer_;

 private:
  HangGuard guard_;
};

std::unique_ptr<Subprocess> MonitorProgram::peer_;

TEST_P(MonitorProgram, DoesWhatItsPeersExpect) {
  peer_->write_line(GetParam());
  EXPECT_EQ(peer_->read_line(), "right");
}

constexpr const char* kCases[] = {
    "pipe_gets_plain_text",
    "colours_are_for_terminals",
    "reader_may_go_away",
    "long_input_waits_for_a_slow_peer",
    "second_signal_does_not_wait_for_a_slow_peer",
    "wrong_options_are_explained",
    "lost_connection_is_told",
    "refused_connection_is_told",
    "prompt_survives_what_comes",
    "ctrl_d_delivers_what_was_typed",
    "search_does_not_hold_up_what_comes",
    "whatever_ends_it_the_terminal_is_restored",
    "stopped_and_continued",
    "dumb_terminal_has_plain_lines",
    "without_libedit_the_terminal_edits",
    "without_libedit_pipes_are_the_same",
    "heartbeats_become_one_line",
    "structs_are_as_in_python",
    "frames_have_an_id_and_a_length",
    "json_is_shown_digit_by_digit",
    "server_serves_one_client_after_the_other",
    "other_sockets",
    "client_connects_again",
    "proxy_shows_and_records_both_sides",
    "proxy_knows_who_has_sent_what",
    "proxy_passes_a_reset_on_as_an_end",
    "proxy_without_a_server_turns_the_client_away",
    "full_disk_does_not_end_the_exchange",
    "nobody_reads_what_it_writes",
    "resizing_does_not_lose_what_waits_for_a_pipe",
    "full_disk_behind_the_output_does_not_end_the_proxy",
    "standard_descriptors_may_be_closed",
    "signals_end_it_though_the_terminal_stands_still",
    "ctrl_c_does_not_show_all_that_waits",
    "recording_is_not_overwritten",
    "history_is_kept_in_a_history_only",
    "fifo_needs_a_reader",
    "replay_may_come_through_a_pipe",
    "two_monitors_do_not_record_into_one_file",
    "line_of_the_input_has_a_bound",
    "recording_too_large_for_the_memory",
    "proxy_leaves_a_client_that_has_sent_all_its_answer",
};

INSTANTIATE_TEST_SUITE_P(Of, MonitorProgram, testing::ValuesIn(kCases),
                         [](const auto& test) {
                           return std::string(test.param);
                         });

TEST(MonitorProgramCases, AreAllPlayed) {
  Subprocess peer({"python3", "-B", script(), "--cases"});
  for (const char* const name : kCases) EXPECT_EQ(peer.read_line(), name);
  EXPECT_EQ(peer.read_all(), "");
  EXPECT_EQ(peer.wait(), 0);
}

}  // namespace
}  // namespace tcpip_tests
