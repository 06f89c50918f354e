/*
 * Feeds a fuzz entry where libFuzzer is not there (gcc): fuzz_x SECONDS [SEED] makes seeded inputs for that long,
 * fuzz_x FILE... replays files, as libFuzzer's findings are replayed. An input that fails is left in the current
 * folder.
 */
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 4096 };

static uint8_t input[MAX_INPUT];
static size_t input_size;

static volatile sig_atomic_t is_running;

/* Leaves the input behind where CHECK (by exit) or a signal ends the program. */
static void save(void) {
    if (!is_running)
        return;
    is_running = 0;
    int fd = open("fuzz-failure.bin", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, input, input_size) != (ssize_t)input_size)
        return;
    close(fd);
    fputs("the input is in fuzz-failure.bin\n", stderr);
}

static void save_and_die(int signal_number) {
    save();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void run(void) {
    is_running = 1;
    LLVMFuzzerTestOneInput(input, input_size);
    is_running = 0;
}

/* Mostly short, mostly bytes that are borders somewhere. */
static void make_input(uint64_t *state) {
    static const uint8_t borders[] = {0, 1, 2, 3, 4, 8, 63, 64, 65, 127, 128, 240, 254, 255};
    input_size = random_below(state, random_below(state, 8) ? 64 : MAX_INPUT);
    uint64_t style = random_below(state, 3);
    for (size_t i = 0; i < input_size; i++) {
        uint64_t x = random_u64(state);
        input[i] = style && x % 2 ? borders[(x >> 8) % sizeof borders] : (uint8_t)(x >> 16);
    }
}

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    input_size = fread(input, 1, MAX_INPUT, file);
    fclose(file);
    run();
    return 0;
}

int main(int argc, char **argv) {
    atexit(save);
    signal(SIGSEGV, save_and_die);
    signal(SIGABRT, save_and_die);
    if (argc < 2) {
        fprintf(stderr, "usage: %s SECONDS [SEED] | FILE...\n", argv[0]);
        return 2;
    }
    if (!isdigit((unsigned char)argv[1][0])) {
        int failures = 0;
        for (int i = 1; i < argc; i++)
            failures += replay(argv[i]);
        return failures > 0;
    }
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, state = seed, count = 0;
    time_t end = time(NULL) + atol(argv[1]);
    for (; time(NULL) < end; count++) {
        make_input(&state);
        run();
    }
    printf("%llu inputs, seed %llu\n", (unsigned long long)count, (unsigned long long)seed);
    return 0;
}
