// Signing in, where the gateway asks for a token. The token is shown once; a cookie that no script can read
// stands for it from then on.

import { onUnauthorized, request } from "./api.js";
import { byId, say } from "./dom.js";

const SESSION = "/v1/session";

// Return once the caller may read: at once where no token is asked for.
export async function signedIn() {
  const session = await request("GET", SESSION);
  if (session.required && session.scope === null) await ask();
  onUnauthorized(() => ask().then(() => location.reload()));
  const { required, scope } = await request("GET", SESSION);
  document.body.dataset.scope = scope ?? "none";
  byId("sign-out").hidden = !required;
  byId("sign-out").addEventListener("click", signOut);
}

let asking = null;

// Ask until a token is taken. A second asker waits for the same answer.
function ask() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("sign-in");
    const form = byId("sign-in-form");
    const error = form.querySelector(".error");
    // Escape closes it, and the second one whatever the page says to it.
    const stay = () => dialog.showModal();
    dialog.addEventListener("close", stay);
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await request("POST", SESSION, { token: form.elements.token.value });
      } catch (problem) {
        error.hidden = false;
        say(error, problem.status === 401 ? "The gateway does not know this token." : problem.message);
        return;
      }
      form.reset();
      error.hidden = true;
      dialog.removeEventListener("close", stay);
      dialog.close();
      asking = null;
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}

async function signOut() {
  await request("DELETE", SESSION);
  location.reload();
}
