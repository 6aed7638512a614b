/* Five bodies under gravity: scalar double arithmetic with square roots and divisions. Also built for 32 bits with x87.
 * nbody STEPS */
#include "bench.h"

struct body {
    double p[3], v[3], mass;
};

static struct body bodies[5] = {
    {{0, 0, 0}, {0, 0, 0}, 39.47841760435743},
    {{4.841431442464721, -1.1603200440274284, -0.10362204447112311}, {0.606326392995832, 2.81198684491626, -0.02521836165988763}, 0.03769367487038949},
    {{8.34336671824458, 4.124798564124305, -0.4035234171143214}, {-1.0107743461787924, 1.8256623712304119, 0.008415761376584154}, 0.011286326131968767},
    {{12.894369562139131, -15.111151401698631, -0.22330757889265573}, {1.0827910064415354, 0.8687130181696082, -0.010832637401363636}, 0.0017237240570597112},
    {{15.379697114850917, -25.919314609987964, 0.17925877295037118}, {0.979090732243898, 0.5946989986476762, -0.034755955504078104}, 0.0020336868699246304}};

int main(int argc, char **argv) {
    long steps = arg(argc, argv, 1, 500000);
    for (long step = 0; step < steps; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], square = 0;
                for (int k = 0; k < 3; k++) d[k] = bodies[i].p[k] - bodies[j].p[k], square += d[k] * d[k];
                double strength = 0.01 / (square * __builtin_sqrt(square));
                for (int k = 0; k < 3; k++) {
                    bodies[i].v[k] -= d[k] * bodies[j].mass * strength;
                    bodies[j].v[k] += d[k] * bodies[i].mass * strength;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++) bodies[i].p[k] += 0.01 * bodies[i].v[k];
    }
    show("nbody", mix_bytes(0, bodies, sizeof bodies));
    return 0;
}
