// EWA splatting as deja_vu/render/reference.py defines it: 0.3 square pixels of blur, linearisation clamped 15 % outside the image.
uniform sampler2D centerOpacity, axis0, axis1, axis2;
uniform mat4 cameraFromWorld;
uniform vec4 intrinsics; // fx, fy, cx, cy in pixels
uniform vec2 size;
in vec3 position;
in float order;
flat out vec4 conicOpacity;
flat out vec3 color;
out vec2 away;
const float NEAR = 0.01, BLUR = 0.3, ALPHA_MIN = 1.0 / 255.0;

void main() {
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    ivec2 at = cell(int(order));
    vec4 co = texelFetch(centerOpacity, at, 0);
    vec3 seen = (cameraFromWorld * vec4(co.xyz, 1.0)).xyz;
    if (seen.z < NEAR || co.w < ALPHA_MIN) return;
    vec2 focal = intrinsics.xy, middle = intrinsics.zw;
    vec2 slope = clamp(seen.xy / seen.z, -(middle + 0.15 * size) / focal, (1.15 * size - middle) / focal);
    vec2 j = focal / seen.z;
    vec4 a[3] = vec4[3](texelFetch(axis0, at, 0), texelFetch(axis1, at, 0), texelFetch(axis2, at, 0));
    vec3 u, v;
    for (int k = 0; k < 3; ++k) {
        vec3 axis = mat3(cameraFromWorld) * a[k].xyz;
        u[k] = j.x * (axis.x - slope.x * axis.z);
        v[k] = j.y * (axis.y - slope.y * axis.z);
    }
    vec3 minors = cross(u, v);
    float uu = dot(u, u), vv = dot(v, v), xx = uu + BLUR, xy = dot(u, v), yy = vv + BLUR;
    float determinant = dot(minors, minors) + BLUR * (uu + vv) + BLUR * BLUR;
    conicOpacity = vec4(yy, -xy, xx, 0.0) / determinant;
    conicOpacity.w = co.w;
    color = vec3(a[0].w, a[1].w, a[2].w);

    // A rectangle along the ellipse alpha = 1/255.
    float mean = 0.5 * (xx + yy), spread = length(vec2(0.5 * (xx - yy), xy)), longest = mean + spread;
    float shortest = determinant / longest, reach = sqrt(2.0 * log(255.0 * co.w));
    vec2 direction = spread < 1e-9 ? vec2(1.0, 0.0) : normalize(xx > yy ? vec2(longest - yy, xy) : vec2(xy, longest - xx));
    away = direction * (position.x * (reach * sqrt(longest) + 0.01)) + vec2(-direction.y, direction.x) * (position.y * (reach * sqrt(shortest) + 0.01));
    vec2 pixel = middle + focal * (seen.xy / seen.z) + away;
    gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
}
