/* Mandelbrot set: scalar doubles, a data-dependent loop; the float half vectorises in the v3 build. mandelbrot N ITERATIONS */
#include "bench.h"

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 200), most = arg(argc, argv, 2, 100);
    uint64_t sum = 0;
    for (long y = 0; y < n; y++)
        for (long x = 0; x < n; x++) {
            double cr = 2.0 * (double)x / (double)n - 1.5, ci = 2.0 * (double)y / (double)n - 1.0, zr = 0, zi = 0;
            long i = 0;
            while (i < most && zr * zr + zi * zi <= 4) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = t;
                i++;
            }
            sum = mix(sum, (uint64_t)i);
        }
    /* Eight points side by side with masks instead of branches. */
    for (long y = 0; y < n; y++)
        for (long x = 0; x + 8 <= n; x += 8) {
            float cr[8], ci = 2.0f * (float)y / (float)n - 1.0f, zr[8] = {0}, zi[8] = {0};
            int count[8] = {0};
            for (int l = 0; l < 8; l++) cr[l] = 2.0f * (float)(x + l) / (float)n - 1.5f;
            for (long i = 0; i < most / 2; i++)
                for (int l = 0; l < 8; l++) {
                    float r2 = zr[l] * zr[l], i2 = zi[l] * zi[l];
                    int in = r2 + i2 <= 4.0f;
                    float t = r2 - i2 + cr[l], u = 2.0f * zr[l] * zi[l] + ci;
                    zr[l] = in ? t : zr[l];
                    zi[l] = in ? u : zi[l];
                    count[l] += in;
                }
            for (int l = 0; l < 8; l++) sum = mix(sum, (uint64_t)count[l]);
        }
    show("mandelbrot", sum);
    return 0;
}
