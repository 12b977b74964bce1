flat in vec4 conicOpacity;
flat in vec3 color;
in vec2 away;
layout(location = 0) out vec4 premultiplied;
void main() {
    float power = -0.5 * (conicOpacity.x * away.x * away.x + conicOpacity.z * away.y * away.y) - conicOpacity.y * away.x * away.y;
    float alpha = min(0.999, conicOpacity.w * exp(power));
    if (alpha < 1.0 / 255.0) discard;
    premultiplied = vec4(alpha * color, alpha);
}
