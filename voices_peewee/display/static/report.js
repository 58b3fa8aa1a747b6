document.addEventListener("play",e=>{for(const a of document.querySelectorAll("audio"))if(a!==e.target)a.pause()},true);
let shut=[];addEventListener("beforeprint",()=>{shut=[...document.querySelectorAll("details:not([open])")];for(const d of shut)d.open=true});addEventListener("afterprint",()=>{for(const d of shut)d.open=false});
