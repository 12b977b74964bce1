// Depth as 24 bits, far first.
uniform sampler2D centers;
uniform vec4 depthRow;
uniform int count;
layout(location = 0) out vec4 key;
const float FARTHEST = 16.0;
void main() {
    int m = ours();
    if (m >= count) discard;
    float depth = dot(depthRow, vec4(texelFetch(centers, cell(m), 0).xyz, 1.0));
    uint level = uint((1.0 - clamp(depth / FARTHEST, 0.0, 1.0)) * 16777215.0);
    key = vec4(float(level & 255u), float((level >> 8) & 255u), float(level >> 16), 0.0) / 255.0;
}
