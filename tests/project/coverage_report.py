"""Judges what gcovr counted: branches by module against what a module owes, and each spot that is left with its reason."""

import collections
import re

# An assert that fails is a fault that no test is to bring about: such lines do not count.
ASSERT = r"\s*assert\("

OWED = {"base": 95, "callback": 95, "store": 85, "http": 85, "command": 85, "forward": 85}  # percent

# Why a spot is not covered: which file, what stands in it (patterns), the reason. The first that fits counts. A spot is
# a line that was not run with every outcome, with the lines behind it that were not run at all; one without a reason is
# a report. Reasons stand by pattern, since line numbers change with each commit; so read the list in the log, too.
REASONS = [
    (".", r"switch \(", "an enum has no other value"),
    (".", r"cJSON_ArrayForEach", "the macro asks for a list that is NULL, which is asked before"),
    (".", r"(?i)ENOMEM|out of memory|MEMORY_ERROR|SQLITE_NOMEM|SHMSIZE|(c|m|re)alloc\(|strn?dup|asprintf|arena_alloc|"
          r"buffer_(print|append|reserve)|append_escaped|format_line|answer_print|answer_create|parse_arena|!event->|"
          r"!callback->|&known|recorded && strcmp|"
          r"if \(length < 0|if \(!\w+\) return NULL;|!(call|block|peer|answer|exchange|receiver|response)\b|made\b",
     "memory runs out"),
    (".", r"answer \? answer|answer->use|if \((call|settings|response)\)|!apps|loop->(daemon|arriving)|fail_recorder|"
          r"status != 0|= (copy|key|bio) \?",
     "memory ran out a moment ago"),
    (".", r"if \(!\w+\) return;", "destroy(NULL) does nothing, by the rule of the project; nobody needs it now"),
    (".", r"r == 0|r < 0|code == SQLITE_OK|code != SQLITE_OK \|\|",
     "something failed before: what is left is memory running out"),
    (".", r"pthread_create|thread cannot be started|cannot start", "the system has no thread left"),
    (".", r"EINTR", "a signal comes at this very moment; all are blocked but in one thread"),
    (".", r"strftime|gmtime_r|clock_gettime", "a time that no calendar has"),
    (".", r"eventfd|event_fd|stop_fd|epoll_fd|event loop", "an eventfd or epoll fails, which takes the system to run out"),
    (".", r"compare_exchange", "two threads log within the same nanoseconds"),
    ("callback/signature|command/command_sign", r"hashed|EIO|SHA-256|signature_compute", "libcrypto cannot hash"),
    ("callback/json_text", r"while \(\*at < length\)|SIZE_MAX",
     "the scan has seen that the string ends, and how long a body may be is limited far below"),
    ("base/log", r"fstat", "standard error is always open: main() sees to it"),
    ("main", r"occupy_standard|fd >= 0", "/dev/null cannot be opened"),
    ("base/error", r"error->text", "vsnprintf fails, or an error is wrapped that fills its text"),
    ("callback/body", r"\*\*ret_text|report->fault", "what a field can hold is narrowed before"),
    ("command/command_certificate", r"X509|EVP_|RAND_|BIO|add_extension|set_serial|strlen\(first_host\)",
     "libcrypto fails on names that were checked"),
    ("command/command_certificate", r"written|EEXIST|close\(fd\)",
     "the disk is full: a test sees it, but then there is no module for its counters either"),
    ("command/config", r"\"a text\"|CONFIG_ADDRESS_BLOCKS|break;", "a type whose errors have words of their own"),
    ("command/config", r"option->section|fixed", "both are always true here; the table has one end"),
    ("command/config_read", r"reader->result|key == |isspace|blame", "inih goes on to its next line after a failure"),
    ("command/command_export", r"POLLERR", "poll() fails"),
    ("command/monitor", r"!file|fscanf|!directory", "there is no /proc"),
    ("command/receiver", r"left_out|more times", "ten seconds pass between two lines of a kind; log_limit is tested"),
    ("command/command_serve", r"rlimit", "limits of files that the system does not let it read or set"),
    ("command/command_serve", r"cores|EAGAIN|settings_warn", "the number of processors is unknown; a day passes"),
    ("http/acceptor", r"address_from_socket|remote_address", "a socket is of IPv4 or IPv6, which is seen at the start"),
    ("http/(connection|loop)", r"3600000|INT_MAX", "a wait of more than an hour is cut, since poll counts in an int"),
    ("http/loop", r"connection->fd != fd", "two connections come to a loop at the same moment"),
    ("http/(loop|tls)", r"^return -1;$|struct pollfd", "the library wants a function that it then does not call"),
    ("http/acceptor", r"listening_is_ours", "at the stop more wait than the acceptor takes at a time"),
    ("http/admin", r"MHD|admin->daemon", "libmicrohttpd runs out of memory; of that it aborts at its own start"),
    ("http/framing", r"'~'", "beyond it are only DEL, which no value may have, and what a signed char takes for less"),
    ("http/listen", r"sockopt|bind\(|getsockname|fcntl|family",
     "the system fails at what it does for every socket, or has other kinds of sockets"),
    ("http/loop", r"text\.length", "each message of libmicrohttpd ends with a newline"),
    ("http/loop", r"must_not", "a second connection is answered in the same turn of the loop"),
    ("http/request", r"stopping|draining|HTTP_LIMIT_CONNECTIONS|PHASE_ANSWERED",
     "a stop, or the end of another connection, falls between two steps of one request"),
    ("http/server", r"getrlimit", "the system does not tell a limit"),
    ("http/standstill", r"recv\(|ending",
     "the memory of a connection is full just where a record ends; one that was ended is looked at again"),
    ("http/tls", r"RECORD_OF_HANDSHAKE|!incoming|EAGAIN",
     "a second handshake in one read, and an answer larger than what a socket has module for"),
    ("forward/forward", r"event_rejected \?", "a constraint of the operator's on rejected callbacks; the word alone differs"),
    ("store/database", r"flock|: strerror\(errno\)", "the kernel has no memory for a lock"),
    ("store/watch", r"given_up", "whoever gives up is asked no more, and what is watched ends at once"),
    ("http/server", r"on_panic", "libmicrohttpd gives up"),
    ("http/key", r"EVP_|PSS|set_padding|DIG_SHA512|SIGN_FAILED|made|UNKNOWN|flags|no_password|context|BIO|handle|X509|"
     "does not take|-1",
     "keys and algorithms that no certificate in use has, and libcrypto failing on what it took at start"),
    ("http/(identity|tls|loop|key)", r"gnutls|GNUTLS|tls_session|http_credentials_apply|credentials|pull_timeout|poll\(",
     "GnuTLS fails at what it did at start, or does not ask"),
    ("http/(answer|server|loop|request)", r"MHD|libmicrohttpd|mhd_ms|destroy|http_library_is_old",
     "libmicrohttpd runs out of memory, or is the other one of its two versions"),
    ("store/store", r"FAILURE_FINAL|store->broken", "the disk breaks at the one moment when something else is retried"),
    ("store/store", r"PAUSE_LOADED", "callbacks keep coming while old events go: only the pace is another"),
    ("store/recorder", r"rejected_bytes_pending = 0", "there is nothing left to drop, and still too much"),
    ("store/backup", r"fstatvfs|sync\(|total > 0|renameat2|link\(|strcmp\(census|if \(fd >= 0\)",
     "the system fails at a file that it has just made, cannot rename without replacing, or a copy has other rows"),
    ("store/database", r"if \(fd < 0\)|fstat|EWOULDBLOCK|stat\(file->path|locked\.st_dev",
     "files change between two looks at them"),
    ("store/wal_index", r"fstat|S_ISREG|pwrite|r < 0|EACCES",
     "a file changes between two looks at it, or the system fails at it; another's checkpoint lasts longer than 5 s"),
    ("store/observer", r"status.st_dev", "another file system is mounted where the database was"),
    ("store/reader", r"WAIT_MAX_MS", "the longest pause is reached: only the pace is another"),
    ("store/usage", r"statvfs", "a file is there and its file system does not tell how full it is"),
    ("command/config", r"colon < user", "each part is tested by a URL, not each with each other"),
    ("command/command_check", r"ENOSYS", "a build without libpq says so, and this one has it"),
    ("main", r"forward_is_built", "a build without libpq says so, and this one has it"),
    ("command/command_forward", r"gethostname|metrics_print", "a host without a name; memory runs out"),
    ("forward/(destination|batch)",
     r"PQ|connection_failed|connecting|left|sqlstate|cancelled|host|encoding|give_up|SIOCOUTQ",
     "libpq fails in this very call, the server is no PostgreSQL, or the process is told to end, and no counters are "
     "written; e2e-forward_faults cuts and kills everywhere"),
    ("forward/(parameters|batch|verify|destination|password)",
     r"file_read|code [=<]|packing_failed|INT_MAX|EVP_Digest",
     "memory runs out a moment ago; a value of 2 GiB; libcrypto cannot hash"),
    ("forward/verify", r"row->differs", "a group whose members alone are missing, and one that differs in both"),
    ("store/reader", r"OBSERVER_REPLACED", "a reader that was never opened"),
    ("forward/forward", r"noted\.|note_failed|shipped_write|stream ==",
     "a note that is ahead of its store; a second failure in a row"),
    ("forward/(progress|destination_schema)", r"now_ms|summary_due|pause_ms|codes\[|sqlstate",
     "a minute passes, a clock is set back; ten forwarders begin at the same instant, each time in another order"),
    ("forward/check_settings", r"keyword|return NULL|\*host|localhost|file_expand_path",
     "libpq's list has the name; the file has been read a moment ago"),
    ("store/shipped", r"fchmod|close\(fd\)|shipped->rejection_id", "the disk is full: its counters would not fit either"),
    ("store/backup", r"stat\(database", "the database vanishes within the command"),
    ("http/loop", r"TLS support", "libmicrohttpd has failed and set no errno"),
    ("store", r"sqlite|SQLITE|bind|database_error|observer_failed|journal|SQLite",
     "SQLite fails where only memory or the disk lets it; every such result goes the same way"),
]


def spots(lines, source):
    """Runs of lines with something left, as [(first line number, text)]."""
    found, last = [], None
    for line in lines:
        number = line["line_number"]
        if line.get("gcovr/noncode"):
            continue
        if line["count"] == 0 or any(branch["count"] == 0 for branch in line["branches"]):
            text = source[number - 1].strip()
            if line["count"] == 0 and last == number - 1 and found:
                found[-1] = (found[-1][0], f"{found[-1][1]} {text}")
            else:
                found.append((number, text))
            last = number
    return found


def reason_of(file, text):
    for place, pattern, reason in REASONS:
        if re.search(place, file) and re.search(pattern, text):
            return reason
    return None


def judge(report, top, log):
    """Writes modules and spots into the log; returns how many modules owe something and how many spots have no reason."""
    branches, taken, missing = collections.Counter(), collections.Counter(), 0
    for file in report["files"]:
        module = file["file"].split("/")[1]
        for line in file["lines"]:
            if not line.get("gcovr/noncode"):
                branches[module] += len(line["branches"])
                taken[module] += sum(branch["count"] > 0 for branch in line["branches"])
        for number, text in spots(file["lines"], (top / file["file"]).read_text().split("\n")):
            reason = reason_of(file["file"], text)
            missing += reason is None
            log.write(f"{file['file']}:{number}: {reason or 'WITHOUT A REASON'}: {text[:100]}\n")
    log.write("\nroom      branches  taken  percent  owed\n")
    for module, owed in OWED.items():
        percent = 100 * taken[module] / max(branches[module], 1)
        missing += percent < owed
        log.write(f"{module:9} {branches[module]:8} {taken[module]:6} {percent:8.1f} {owed:5}\n")
    return missing
