// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vite';

export default defineConfig({
  // Icons are loaded by address: build/img/icons below __grafana_public_path__ (src/main.jsx).
  publicDir: 'node_modules/@grafana/ui/dist/public',
  esbuild: { jsx: 'automatic' },
  base: './',
  build: { outDir: 'dist/build', minify: false, reportCompressedSize: false, chunkSizeWarningLimit: 100_000 },
});
