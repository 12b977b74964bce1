uniform sampler2D picture;
uniform vec4 background; // premultiplied
layout(location = 0) out vec4 shown;
void main() {
    vec4 over = texelFetch(picture, ivec2(gl_FragCoord.xy), 0);
    shown = clamp(over + (1.0 - over.a) * background, 0.0, 1.0);
}
