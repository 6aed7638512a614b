/* Writes data for the compressors and digests: text of a small vocabulary, tables, and noise. gendata BYTES */
#include "bench.h"

int main(int argc, char **argv) {
    long left = arg(argc, argv, 1, 1 << 20);
    char words[512][12];
    for (int i = 0; i < 512; i++) {
        int n = 2 + (int)(rng() % 9);
        for (int j = 0; j < n; j++) words[i][j] = "etaoinshrdlucmfwypvbgkjqxz"[rng() % 26 * (rng() % 26) / 26];
        words[i][n] = 0;
    }
    for (long line = 0; left > 0; line++) {
        char text[512];
        int n = 0;
        if (line % 50 == 49)
            for (; n < 64; n++) text[n] = (char)rng();
        else if (line % 7 == 6)
            n = sprintf(text, "%08ld\t%lld\t%lld\n", line, (long long)(rng() % 100000), (long long)(line * line));
        else {
            for (int w = 0; w < 12; w++) n += sprintf(text + n, "%s%c", words[rng() % 512 * (rng() % 512) / 512], w == 11 ? '\n' : ' ');
        }
        if (n > left) n = (int)left;
        fwrite(text, 1, (size_t)n, stdout);
        left -= n;
    }
    return 0;
}
