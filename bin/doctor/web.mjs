// Requests of the doctor: none waits for ever, reads without end, or throws.

/**
 * @typedef {object} Answer
 * @property {string} url
 * @property {number} status
 * @property {Headers} headers
 * @property {string} text As much of the body as is looked at
 * @property {undefined} [problem]
 *
 * @typedef {object} NoAnswer
 * @property {string} url
 * @property {string} problem Why there is none, in words
 *
 * @typedef {(url: string | URL, init?: RequestInit) => Promise<Response>} Fetch
 */

/** ms for one request and its answer */
const LIMIT = 10_000
const MOST_BYTES = 2 * 1024 * 1024

const CODES = /** @type {Record<string, string>} */ ({
  ENOTFOUND: 'DNS does not know this host',
  EAI_AGAIN: 'DNS does not answer',
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was cut',
  UND_ERR_SOCKET: 'the connection was cut',
  ETIMEDOUT: 'the host does not answer',
  EHOSTUNREACH: 'there is no way to this host',
  ENETUNREACH: 'there is no way to this host',
  UND_ERR_CONNECT_TIMEOUT: 'the host does not answer',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'its certificate is self-signed (NODE_EXTRA_CA_CERTS=file.pem trusts one of your own)',
  SELF_SIGNED_CERT_IN_CHAIN:
    'its certificate is from an unknown authority (NODE_EXTRA_CA_CERTS=file.pem adds your own)',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    'its certificate is from an unknown authority (NODE_EXTRA_CA_CERTS=file.pem adds your own)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'it does not send the intermediate certificates',
})

/** @param {any} error */
const explain = (error) => {
  if (error.name === 'TimeoutError') return `no answer within ${LIMIT / 1000} s`
  const { code = '', message } = error.cause ?? error
  if (CODES[code]) return CODES[code]
  if (/^(ERR_SSL|EPROTO|ERR_TLS|CERT_)/.test(code)) return `TLS failed (${code})`
  if (code.startsWith('HPE_')) return `what answers does not speak HTTP (${code})`
  return String(message || error.message || error)
}

/** @param {Response} response */
const readSome = async (response) => {
  const chunks = []
  let bytes = 0
  const reader = response.body?.getReader()
  while (reader && bytes < MOST_BYTES) {
    const { done, value } = await reader.read()
    if (done) break
    chunks.push(value)
    bytes += value.byteLength
  }
  reader?.cancel().catch(() => {})
  return Buffer.concat(chunks).toString()
}

/**
 * @param {Fetch} fetch
 * @param {{ origin: string, headers: Record<string, string> }} app What only the app's site gets
 * @param {string} name What the doctor calls itself
 */
export const createWeb = (fetch, app, name) => {
  /**
   * Redirects are not followed.
   *
   * @param {string | URL} url @param {RequestInit} [init] @returns {Promise<Answer | NoAnswer>}
   */
  const ask = async (url, init = {}) => {
    const { href, origin } = new URL(url)
    const headers = {
      'user-agent': name,
      ...(origin === app.origin && app.headers),
      .../** @type {any} */ (init.headers),
    }
    try {
      const signal = AbortSignal.timeout(LIMIT)
      const response = await fetch(href, { redirect: 'manual', signal, ...init, headers })
      const text = await readSome(response)
      return { url: href, status: response.status, headers: response.headers, text }
    } catch (error) {
      return { url: href, problem: explain(error) }
    }
  }
  return { ask }
}

/** @typedef {ReturnType<typeof createWeb>} Web */

/** Where an answer redirects to. @param {Answer} answer @returns {URL | undefined} */
export const targetOf = ({ url, status, headers }) => {
  const location = headers.get('location')
  if (status < 300 || status > 399 || location === null || !URL.canParse(location, url)) return
  return new URL(location, url)
}

/** @param {Answer} answer */
export const isHtml = ({ headers }) => /^text\/html\b/i.test(headers.get('content-type') ?? '')

/** An answer in a few words. @param {Answer | NoAnswer} answer */
export const describe = (answer) => {
  if (answer.problem !== undefined) return `does not answer: ${answer.problem}`
  const target = targetOf(answer)
  return target ? `redirects to ${target.href}` : `answers ${answer.status}`
}

/** @param {string} text @returns {Record<string, any> | undefined} */
export const parseObject = (text) => {
  try {
    const value = JSON.parse(text)
    return value instanceof Object ? value : undefined
  } catch {
    return undefined
  }
}

/** Foreign words, made harmless for a terminal. @param {unknown} words */
export const quote = (words) =>
  String(words)
    .replace(/[^\x20-\x7e\u00a0-\ud7ff]+/g, ' ')
    .trim()
    .slice(0, 200)
