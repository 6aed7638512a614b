/* Permutations and pancake flips: small arrays, unpredictable branches. fannkuch N */
#include "bench.h"

int main(int argc, char **argv) {
    int n = arg(argc, argv, 1, 9);
    int perm[16], perm1[16], count[16];
    int most = 0, check = 0, r = n, turn = 0;
    for (int i = 0; i < n; i++) perm1[i] = i;
    for (;;) {
        for (; r != 1; r--) count[r - 1] = r;
        memcpy(perm, perm1, sizeof perm);
        int flips = 0, k;
        while ((k = perm[0]) != 0) {
            for (int i = 0, j = k; i < j; i++, j--) {
                int t = perm[i];
                perm[i] = perm[j];
                perm[j] = t;
            }
            flips++;
        }
        if (flips > most) most = flips;
        check += turn & 1 ? -flips : flips;
        for (;; r++) {
            if (r == n) {
                printf("%d %d\n", check, most);
                return 0;
            }
            int first = perm1[0];
            for (int i = 0; i < r; i++) perm1[i] = perm1[i + 1];
            perm1[r] = first;
            if (--count[r] > 0) break;
        }
        turn++;
    }
}
