// SPDX-License-Identifier: Apache-2.0
//
// Swagger UI for the server's openapi.json, with the demo's token filled in.

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
    validatorUrl: null, // no validation by another server
    onComplete: () => authorize(ui),
});
