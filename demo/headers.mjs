// The headers that docs/recipes.md recommends, for the demo's own pages and workers.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

// Apps below the root, with a worker of their own.
const FOLDER = /^\/(?:workbox|notes)(?=\/)/
const AUTH_PATH = /\/tokenward\/(?:login|silent|callback|done|logout)\.html$/
const INLINE_SCRIPT = /<script(?: type="module")?>(.*?)<\/script>/gs

/**
 * What the inline scripts of these pages are allowed by. A server that makes its pages would use a
 * nonce for each response; these are files.
 *
 * @param {string[]} files @returns {Promise<string>}
 */
export async function hashInlineScripts(files) {
  const pages = await Promise.all(files.map((file) => readFile(file, 'utf8')))
  return pages
    .flatMap((page) => [...page.matchAll(INLINE_SCRIPT)].map(([, script = '']) => script))
    .map((script) => `'sha256-${createHash('sha256').update(script).digest('base64')}'`)
    .join(' ')
}

/**
 * For the site's `setHeaders`. The auth pages have headers of their own.
 *
 * @param {{ site: string, api: string, authorizationServer: string, scripts: string }} origins
 * @returns {(path: string) => Record<string, string> | undefined}
 */
export function recommendedHeaders({ site, api, authorizationServer, scripts }) {
  const page = (/** @type {string} */ path) => [
    "default-src 'self'",
    `script-src 'self' ${scripts}`,
    "object-src 'none'",
    "base-uri 'none'",
    "img-src 'self' data:",
    `worker-src ${site}${FOLDER.exec(path) ?? ''}/sw.js`,
    `connect-src 'self' ${api}`,
    `frame-src 'self' ${authorizationServer}`,
    "frame-ancestors 'none'",
    `form-action 'self' ${authorizationServer}`,
    "require-trusted-types-for 'script'",
    'trusted-types tokenward',
  ]
  const worker = [
    "default-src 'none'",
    "script-src 'self'",
    `connect-src 'self' ${authorizationServer} ${api}`,
  ].join('; ')
  return (path) => {
    if (AUTH_PATH.test(path)) return undefined
    const policy = path.endsWith('/sw.js') ? worker : page(path).join('; ')
    return { 'content-security-policy': policy }
  }
}
