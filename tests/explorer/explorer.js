// SPDX-License-Identifier: Apache-2.0
//
// Swagger UI on the server's own description of its APIs, with the demo's token already in.

const darkness = matchMedia("(prefers-color-scheme: dark)");

function dress() {
    document.documentElement.classList.toggle("dark-mode", darkness.matches);
}

async function authorize(ui) {
    const answer = await fetch("token.json");
    ui.preauthorizeApiKey("bearer", (await answer.json()).token);
}

darkness.addEventListener("change", dress);
dress();

const ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#explorer",
    deepLinking: true,
    tryItOutEnabled: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null, // it would ask another server about this one
    onComplete: () => authorize(ui),
});
