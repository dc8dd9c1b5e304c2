// The gateway's API. Errors are its problem documents.

const SKEW_MATTERS_MS = 2000;

let skew = 0;

// The server's clock, so that ages are right on a machine whose clock is not.
export const now = () => Date.now() + skew;

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const get = (path) => request("GET", path);
export const post = (path, body) => request("POST", path, body ?? {});

// An id as one segment of a path.
export const segment = encodeURIComponent;

let unauthorized = () => {};

// What to do when the gateway does not know us any more.
export const onUnauthorized = (callback) => (unauthorized = callback);

export async function request(method, path, body) {
  const options = { method, headers: { Accept: "application/json" }, cache: "no-store" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem(0, "the gateway does not answer");
  }
  learnSkew(response);
  const answer = await response.json().catch(() => null);
  if (response.status === 401 && path !== "/v1/session") unauthorized();
  if (!response.ok)
    throw new Problem(response.status, answer?.detail ?? `the gateway answered ${response.status}`);
  return answer;
}

function learnSkew(response) {
  const apart = Date.parse(response.headers.get("date") ?? "") - Date.now();
  if (!Number.isNaN(apart)) skew = Math.abs(apart) > SKEW_MATTERS_MS ? apart : 0;
}
