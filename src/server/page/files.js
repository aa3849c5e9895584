// The ways of settings into the page: a dropped file, a picked one, pasted text.
import {$} from './dom.js';

// Calls `onText(text, name)` with every file of settings that is dropped, picked or pasted.
export function setUpFiles(onText) {
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
  let depth = 0;
  const showDrop = (change) => {
    depth = Math.max(0, depth + change);
    $('drop').hidden = depth === 0;
  };
  addEventListener('dragenter', (event) => {
    if (hasFiles(event)) showDrop(1);
  });
  addEventListener('dragleave', (event) => {
    if (hasFiles(event)) showDrop(-1);
  });
  addEventListener('dragover', (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener('drop', async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    showDrop(0);
    const [file] = event.dataTransfer.files;
    if (file) onText(await file.text(), file.name);
  });
  $('load').addEventListener('click', () => $('file').click());
  $('file').addEventListener('change', async () => {
    const [file] = $('file').files;
    if (file) onText(await file.text(), file.name);
    $('file').value = '';
  });
  document.addEventListener('paste', (event) => {
    const text = event.clipboardData.getData('text').trim();
    const isField = event.target.matches('input, textarea') && event.target.id !== 'prompt';
    if (isField || !text.startsWith('{') || !text.endsWith('}')) return;
    event.preventDefault();
    onText(text, 'The pasted text');
  });
}
